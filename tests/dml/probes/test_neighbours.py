"""Neighbours on models whose behaviour is known: the planted cohort shows the tumor factor in slide and genes."""

import numpy as np
import pandas as pd
import pytest

from dml.probes.fold_models import predict_folds
from dml.probes.neighbour_survival import interval_coverage, mix
from dml.probes.neighbours import find_neighbours, neighbour_predictions, probe_neighbours
from tests.dml.probes.conftest import PARAMS, splits

pytestmark = pytest.mark.slow
YEARS = PARAMS.evaluation.years


def test_neighbours_are_of_the_learning_patients_and_alike(data, fold_models, scorer):
    result = probe_neighbours(fold_models, splits(data), scorer, YEARS, 10)
    teacher = result["teacher"]
    assert teacher["prediction"]["value"] > 0.6, "whoever is alike lives alike"
    assert teacher["survival"]["ibs"]["value"] is not None
    assert set(teacher["survival"]["dichotomy"]) == {"weight", "c_index", "ibs"}
    grade = teacher["same_label"]["grade"]
    assert set(grade) == {"both", "tumor", "tme"}
    assert grade["tumor"]["difference"]["ci_low"] > 0, "the grade is the sign of the tumor factor"
    assert teacher["same_site"]["share"]["value"] == pytest.approx(teacher["same_site"]["chance"]["value"], abs=0.12)


def test_no_test_patient_and_no_patient_of_the_hospital_is_a_neighbour(data, fold_models):
    one = fold_models[0]
    learning = {case.patient_id for case in one.learning.cases}
    for row in find_neighbours(one, "student", splits(data)):
        assert row.case.patient_id not in learning
        assert len(row.similar.bank.cases) == len(learning)
        assert row.case.site not in set(row.similar.nearest("both", 10)["site"])


def test_a_mixture_is_a_survival_curve(data, fold_models, scorer):
    tested = [row for one in fold_models for row in find_neighbours(one, "student", splits(data))]
    near, model = neighbour_predictions(tested, scorer, YEARS, 10), predict_folds(fold_models, "student")
    mixed, weight = mix(near, model, scorer, YEARS)
    curves = mixed.filter(like="survival_").to_numpy()
    assert (np.diff(curves, axis=1) <= 1e-9).all()
    assert ((curves >= -1e-9) & (curves <= 1 + 1e-9)).all()
    assert 0 <= weight <= 1


@pytest.mark.parametrize(("shift", "low", "high"), [(0.0, 0.85, 1.0), (-0.3, 0.0, 0.3)])
def test_the_interval_covers_what_is_right_and_not_what_is_wrong(shift: float, low: float, high: float) -> None:
    rng = np.random.default_rng(0)
    hazard = rng.uniform(0.2, 1.0, 1200) / 1000
    survival = np.clip(np.exp(-hazard * 1096) + shift, 0.01, 0.99)
    rows = pd.DataFrame({"days": rng.exponential(1 / hazard), "event": True, "survival_1096": survival})
    share = interval_coverage(rows, (3.0,), 30)["share"]
    assert low <= share <= high
