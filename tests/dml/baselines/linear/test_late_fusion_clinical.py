"""Late fusion adds the information of age and sex to any model, and uses nothing of test patients."""

from dataclasses import replace

import numpy as np
import pytest

from dml.baselines.linear.fit import fit_baseline
from dml.baselines.linear.late_fusion_clinical import fit_late_fusion
from dml.baselines.linear.regression import make_regression
from dml.config.params import Baselines
from dml.core.types import Cohort, Survival
from dml.evaluation.metrics.concordance import count_pairs
from tests.synthetic import cohort

YEARS, SURVIVAL = (1.0, 3.0), ["survival_365", "survival_1096"]


def aged(patients: int) -> Cohort:
    """Survival that depends on age beside the known factors; every tenth has no age."""
    invented = cohort(patients, seed=4)
    cases = []
    for i, case in enumerate(invented.cases):
        age = case.covariates["age"]
        days = case.survival.days * float(np.exp(-0.15 * (age - 50)))
        known = {"sex": float(i % 2)} if i % 10 == 0 else {"age": age, "sex": float(i % 2)}
        cases.append(replace(case, survival=Survival(days, case.survival.event), covariates=known))
    return replace(invented, cases=tuple(cases))


@pytest.fixture(scope="module")
def predicted():
    """A slide-only Cox model's predictions for 100 validation and 100 test patients."""
    data = aged(320)
    ids = [case.patient_id for case in data.cases]
    training, validation, test = (data.subset(set(ids[a:b])) for a, b in ((0, 120), (120, 220), (220, 320)))
    regression = make_regression("survival", training.classes, YEARS)
    parts = {"validation": validation, "test": test}
    settings = Baselines(components=5, penalty=0.1)
    return data, regression, fit_baseline("linear_slide", training, parts, regression, settings)


def c_index(rows):
    columns = (rows["days"].to_numpy(), rows["event"].to_numpy(bool), rows["risk"].to_numpy())
    return count_pairs(*columns, np.zeros(len(rows), int)).index


def test_age_adds_to_a_model_that_does_not_read_it(predicted):
    data, regression, slide = predicted
    fused = fit_late_fusion("linear_slide", slide.rows, data, regression)
    test = slide.rows[slide.rows["role"] == "test"]
    assert len(fused.rows) == len(test) == 100
    assert c_index(fused.rows) > c_index(test) + 0.05
    assert set(fused.rows["model"]) == {"linear_slide-clinical"}
    assert (np.diff(fused.rows[SURVIVAL].to_numpy(), axis=1) <= 0).all()


def test_the_linear_predictor_of_a_cox_model_is_its_log_hazard_ratio(predicted):
    _, regression, slide = predicted
    eta, risk = regression.linear_predictor(slide.rows)[:, 0], slide.rows["risk"].to_numpy()
    inner = np.abs(eta - np.median(eta)) < 3  # survival of 1 - 1e-6 is where it is cut off
    np.testing.assert_allclose((eta - risk)[inner], np.median(eta - risk), atol=1e-3)


def test_outcomes_of_test_patients_are_not_used(predicted):
    data, regression, slide = predicted
    rows = slide.rows
    tested = set(rows.loc[rows["role"] == "test", "patient_id"])
    poisoned = replace(
        data,
        cases=tuple(replace(c, survival=Survival(1.0, True)) if c.patient_id in tested else c for c in data.cases),
    )
    clean, dirty = (fit_late_fusion("x", rows, d, regression).rows for d in (data, poisoned))
    np.testing.assert_array_equal(clean["risk"], dirty["risk"])


def test_probabilities_stay_probabilities(predicted):
    data = predicted[0]
    ids = [case.patient_id for case in data.cases]
    training, validation, test = (data.subset(set(ids[a:b])) for a, b in ((0, 120), (120, 220), (220, 320)))
    regression = make_regression("grade", training.classes, YEARS)
    parts = {"validation": validation, "test": test}
    slide = fit_baseline("linear_slide", training, parts, regression, Baselines(components=5, penalty=0.1))
    fused = fit_late_fusion("linear_slide", slide.rows, data, regression)
    probabilities = fused.rows[["p_low", "p_high"]].to_numpy()
    np.testing.assert_allclose(probabilities.sum(1), 1)
    right = (probabilities.argmax(1) == (fused.rows["label"] == "high")).mean()
    assert right > 0.8


def test_too_few_patients_are_refused_with_the_reason(predicted):
    data, regression, slide = predicted
    bare = replace(data, cases=tuple(replace(c, covariates={}) for c in data.cases))
    assert "0 validation patients with age or sex" in fit_late_fusion("x", slide.rows, bare, regression)
