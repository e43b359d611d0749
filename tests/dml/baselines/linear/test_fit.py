from dataclasses import replace

import numpy as np
import pytest

from dml.baselines.linear.fit import MODELS, fit_baseline
from dml.baselines.linear.regression import make_regression
from dml.config.params import Baselines
from dml.core.types import Survival
from dml.evaluation.metrics.concordance import count_pairs
from tests.synthetic import cohort

YEARS, SURVIVAL = (1.0, 3.0), ["survival_365", "survival_1096"]
NAMES = [model.name for model in MODELS]
SETTINGS = Baselines(components=5, penalty=0.1)


@pytest.fixture(scope="module")
def parts():
    """120 training patients of whom 20 have no transcriptome, 40 for each of validation and test."""
    invented = cohort(200, seed=3, absent=20)
    ids = [case.patient_id for case in invented.cases]
    return tuple(invented.subset(set(ids[a:b])) for a, b in ((0, 120), (120, 160), (160, 200)))


def fitted(name, parts, task="survival"):
    training, validation, test = parts
    evaluated = {"validation": validation, "test": test}
    return fit_baseline(name, training, evaluated, make_regression(task, training.classes, YEARS), SETTINGS)


def c_index(result):
    rows = result.rows  # validation and test: neither was fitted on
    columns = (rows["days"].to_numpy(), rows["event"].to_numpy(bool), rows["risk"].to_numpy())
    return count_pairs(*columns, np.zeros(len(rows), int)).index


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("task", ["survival", "grade"])
def test_every_baseline_predicts_every_validation_and_test_patient(parts, name, task):
    result = fitted(name, parts, task)
    assert result.rows["role"].value_counts().to_dict() == {"validation": 40, "test": 40}
    assert set(result.rows["model"]) == {name}
    outputs = ["risk", *SURVIVAL] if task == "survival" else ["p_low", "p_high"]
    assert np.isfinite(result.rows[outputs].to_numpy(float)).all()
    assert result.metadata["task"] == task


def test_genes_and_slide_find_their_planted_factors(parts):
    scores = {name: c_index(fitted(name, parts)) for name in NAMES}
    assert scores["null"] == 0.5
    assert scores["linear_slide"] > 0.6
    assert scores["linear_genes"] > scores["linear_slide"]
    assert scores["linear_slide_genes"] > scores["linear_slide"]


def test_training_patients_without_the_source_are_left_out_and_counted(parts):
    counts = {name: fitted(name, parts).description["training_patients"] for name in NAMES}
    assert counts["linear_slide"] == counts["null"] == 120
    assert counts["linear_genes"] == counts["linear_slide_genes"] == 100


def test_outcomes_of_test_and_validation_patients_change_nothing(parts):
    training, validation, test = parts
    poisoned = tuple(
        replace(part, cases=tuple(replace(case, survival=Survival(1.0, True)) for case in part.cases))
        for part in (validation, test)
    )
    honest, spoilt = fitted("linear_slide_genes", parts), fitted("linear_slide_genes", (training, *poisoned))
    assert honest.description == spoilt.description
    np.testing.assert_array_equal(honest.rows["risk"], spoilt.rows["risk"])


def test_a_prediction_does_not_depend_on_the_other_patients(parts):
    training, validation, test = parts
    alone = test.subset({test.cases[7].patient_id})
    among_all = fitted("linear_slide_genes", parts).rows.set_index("patient_id")["risk"]
    single = fitted("linear_slide_genes", (training, validation, alone)).rows.set_index("patient_id")["risk"]
    assert single[test.cases[7].patient_id] == pytest.approx(among_all[test.cases[7].patient_id], abs=1e-9)


def test_the_cut_off_and_follow_up_are_the_training_patients(parts):
    metadata = fitted("linear_genes", parts).metadata
    assert len(metadata["train_days"]) == len(metadata["train_event"]) == 100
    null = fitted("null", parts)
    assert null.metadata["train_cutoff"] == 0
    assert null.rows["survival_365"].nunique() == 1


def test_without_the_source_in_training_there_is_no_baseline(parts, caplog):
    training, validation, test = parts
    bare = replace(training, cases=tuple(replace(case, expression=None) for case in training.cases))
    assert fitted("linear_genes", (bare, validation, test)) is None
    assert "no training patient has genes" in caplog.text


def test_class_shares_are_those_of_the_training_patients(parts):
    null = fitted("null", parts, "grade")
    share = np.mean([case.labels["grade"] == "high" for case in parts[0].cases])
    assert null.rows["p_high"].to_numpy() == pytest.approx(share)
