import numpy as np
import pytest
from sksurv.metrics import concordance_index_censored

from dml.config.params import Evaluation
from dml.core.predictions import read_predictions, write_predictions
from dml.evaluation.intervals import bootstrap_weights
from dml.evaluation.results import read_results
from dml.evaluation.subgroups import Group, make_groups, score_subgroups

QUICK = Evaluation(resamples=100)


@pytest.fixture
def judged(tmp_path, invented):
    results = read_results(invented.write(tmp_path, "survival", {"teacher": 0.8}))
    weights = bootstrap_weights(results.patients["fold"].to_numpy(int), 100, 0)
    return results, weights


def test_every_patient_of_known_value_is_in_one_group_of_a_column(judged, invented):
    known = invented.patients.copy()
    known.loc[:9, "age"] = np.nan
    groups = list(make_groups(judged[0], known, ["grade"]))
    assert [g.column for g in groups] == ["age"] * 2 + ["sex"] * 2 + ["site"] * 3 + ["grade"] * 3
    for column, patients in (("age", 110), ("sex", 120), ("site", 120), ("grade", 120)):
        of_column = [g.patients for g in groups if g.column == column]
        assert sum(map(len, of_column)) == len(frozenset().union(*of_column)) == patients
    assert {g.value for g in groups if g.column == "sex"} == {"female", "male"}
    assert sum(g.outcomes for g in groups if g.column == "site") == invented.patients["event"].sum()


def test_a_group_is_scored_on_its_own_pairs(judged, invented):
    results, weights = judged
    group = next(g for g in make_groups(results, invented.patients, []) if g.value == "female")
    found = score_subgroups(results, weights, [group], ["teacher"], QUICK)["groups"][0]
    rows = results.models["teacher"].rows
    rows = rows[rows["patient_id"].isin(group.patients)]
    counts = np.array([
        concordance_index_censored(part["event"].to_numpy(bool), part["days"].to_numpy(), part["risk"].to_numpy())[1:4]
        for _, part in rows.groupby("fold")
    ])  # fmt: skip
    expected = (counts[:, 0] + 0.5 * counts[:, 2]).sum() / counts.sum()
    entry = found["models"]["teacher"]
    assert entry["value"] == pytest.approx(expected, abs=1e-6)
    assert entry["ci_low"] <= entry["value"] <= entry["ci_high"]
    assert entry["rest"]["p"] <= entry["rest"]["p_holm"] <= 1


def test_small_groups_are_listed_and_not_scored(judged, invented):
    results, weights = judged
    groups = list(make_groups(results, invented.patients, ["grade"]))
    found = score_subgroups(results, weights, groups, ["teacher"], Evaluation(resamples=10, min_patients=50))
    assert all(row["patients"] >= 50 for row in found["groups"])
    assert {row["column"] for row in found["too_small"]} >= {"site", "grade"}
    assert len(found["groups"]) + len(found["too_small"]) == len(groups)
    assert found["floors"] == {"patients": 50, "outcomes": 10}


def test_a_group_in_perfect_order_has_no_p_and_one_without_pairs_is_named(tmp_path, invented):
    """The bootstrap of 1.000 has no spread, so it cannot say how sure a difference from others is."""
    models = invented.write(tmp_path, "survival", {"teacher": 0.5})
    for path in models.glob("*/*/predictions.parquet"):
        rows, metadata = read_predictions(path)
        known = invented.patients.set_index("patient_id").loc[rows["patient_id"]]
        ordered = np.where(known["sex"] == 1, -rows["days"], rows["risk"])
        write_predictions(path, rows.assign(risk=ordered), metadata)
    results = read_results(models)
    weights = bootstrap_weights(results.patients["fold"].to_numpy(int), 100, 0)
    single = Group("alone", "one a fold", frozenset(_one_of_each_fold(results)), 3)
    groups = [*make_groups(results, invented.patients, []), single]
    settings = Evaluation(resamples=100, min_patients=3, min_events=1)
    found = score_subgroups(results, weights, groups, ["teacher"], settings)
    female, male = (
        next(row for row in found["groups"] if row["value"] == sex)["models"]["teacher"] for sex in ("female", "male")
    )
    assert (female["value"], female["ci_low"], female["rest"]) == (1.0, 1.0, None)
    assert male["rest"]["p"] <= male["rest"]["p_holm"] <= 1
    assert [row["value"] for row in found["undefined"]] == ["one a fold"]


def _one_of_each_fold(results):
    return results.patients.drop_duplicates("fold")["patient_id"]


def test_classes_count_those_outside_the_commonest(tmp_path, invented):
    results = read_results(invented.write(tmp_path, "classification", {"teacher": 0.8}))
    groups = list(make_groups(results, invented.patients, ["grade"]))
    assert "grade" not in {g.column for g in groups}  # the task itself
    female = next(g for g in groups if g.value == "female")
    labels = invented.patients.set_index("patient_id").loc[sorted(female.patients), "grade"].value_counts()
    assert female.outcomes == labels.sum() - labels.max()
