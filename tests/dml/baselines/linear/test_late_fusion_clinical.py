"""The clinical layer adds what age knows to any model, and takes nothing from test patients."""

from dataclasses import replace

import numpy as np
import pytest

from dml.baselines.linear.fit import fit_reference, learner_of
from dml.baselines.linear.late_fusion_clinical import opinion, with_clinical
from dml.config.params import Baselines
from dml.core.types import Cohort, Survival
from dml.evaluation.metrics.concordance import count_pairs
from tests.synthetic import cohort

HORIZONS = {"survival_365": 365, "survival_1096": 1096}


def aged(patients: int) -> Cohort:
    """Survival that age decides beside the planted factors; every tenth has no age."""
    invented = cohort(patients, seed=4)
    cases = []
    for i, case in enumerate(invented.cases):
        age = case.covariates["age"]
        days = case.survival.days * float(np.exp(-0.15 * (age - 50)))
        known = {"sex": float(i % 2)} if i % 10 == 0 else {"age": age, "sex": float(i % 2)}
        cases.append(replace(case, survival=Survival(days, case.survival.event), covariates=known))
    return replace(invented, cases=tuple(cases))


@pytest.fixture(scope="module")
def judged():
    """A slide-only Cox model's predictions for 100 validation and 100 test patients."""
    data = aged(320)
    ids = [case.patient_id for case in data.cases]
    training, validation, test = (data.subset(set(ids[a:b])) for a, b in ((0, 120), (120, 220), (220, 320)))
    learner = learner_of("survival", training, HORIZONS)
    parts = {"validation": validation, "test": test}
    settings = Baselines(components=5, penalty=0.1)
    return data, learner, fit_reference("linear_slide", training, parts, learner, settings)


def c_index(rows):
    columns = (rows["days"].to_numpy(), rows["event"].to_numpy(bool), rows["risk"].to_numpy())
    return count_pairs(*columns, np.zeros(len(rows), int)).index


def test_age_adds_to_a_model_that_did_not_know_it(judged):
    data, learner, slide = judged
    layered = with_clinical("linear_slide", slide.rows, data, learner)
    test = slide.rows[slide.rows["role"] == "test"]
    assert len(layered.rows) == len(test) == 100
    assert c_index(layered.rows) > c_index(test) + 0.05
    assert set(layered.rows["model"]) == {"linear_slide-clinical"}
    assert (np.diff(layered.rows[list(HORIZONS)].to_numpy(), axis=1) <= 0).all()


def test_the_opinion_of_a_cox_model_is_its_log_hazard_ratio(judged):
    _, learner, slide = judged
    eta, risk = opinion(slide.rows, learner)[:, 0], slide.rows["risk"].to_numpy()
    inner = np.abs(eta - np.median(eta)) < 3  # survival of 1 - 1e-6 is where it is cut off
    np.testing.assert_allclose((eta - risk)[inner], np.median(eta - risk), atol=1e-3)


def test_the_truth_of_test_patients_is_not_looked_at(judged):
    data, learner, slide = judged
    rows = slide.rows
    tested = set(rows.loc[rows["role"] == "test", "patient_id"])
    poisoned = replace(
        data,
        cases=tuple(replace(c, survival=Survival(1.0, True)) if c.patient_id in tested else c for c in data.cases),
    )
    clean, dirty = (with_clinical("x", rows, d, learner).rows for d in (data, poisoned))
    np.testing.assert_array_equal(clean["risk"], dirty["risk"])


def test_probabilities_stay_probabilities(judged):
    data = judged[0]
    ids = [case.patient_id for case in data.cases]
    training, validation, test = (data.subset(set(ids[a:b])) for a, b in ((0, 120), (120, 220), (220, 320)))
    learner = learner_of("grade", training, HORIZONS)
    parts = {"validation": validation, "test": test}
    slide = fit_reference("linear_slide", training, parts, learner, Baselines(components=5, penalty=0.1))
    layered = with_clinical("linear_slide", slide.rows, data, learner)
    probabilities = layered.rows[["p_low", "p_high"]].to_numpy()
    np.testing.assert_allclose(probabilities.sum(1), 1)
    right = (probabilities.argmax(1) == (layered.rows["label"] == "high")).mean()
    assert right > 0.8


def test_too_few_patients_are_refused_with_the_reason(judged):
    data, learner, slide = judged
    bare = replace(data, cases=tuple(replace(c, covariates={}) for c in data.cases))
    assert "0 validation patients with age or sex" in with_clinical("x", slide.rows, bare, learner)
