"""Noisy labels: whose are flipped and to what, what each arm is trained with, and that nothing is trained twice."""

import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dml.config import params as config
from dml.core.errors import ConfigError
from dml.core.types import Cohort
from dml.probes import label_noise as noise
from dml.probes import label_study
from dml.probes.label_flips import flip_labels, set_labels, transition_matrix
from dml.probes.label_noise import LabelNoise, flat_rows, score_noise
from dml.probes.label_study import OUT_OF_FOLD, collect_tested
from dml.probes.paired_scorer import PairedScorer
from dml.training.folds import Fold
from tests.dml.probes.conftest import splits
from tests.synthetic import cohort

DATA = cohort(60, seed=4)
PARAMS = config.Params(
    cohort="synthetic",
    tasks=("survival", "grade"),
    folds=(0, 1),
    model=config.Model(width=8, heads=2, n_queries=2, gene_width=8, linear_offset=config.LinearOffset(components=0)),
    optimisation=config.Optimisation(epochs=1, batch_size=16, device="cpu", ensemble_size=3),
    evaluation=config.Evaluation(resamples=50),
)


def study(task: str = "grade", data: Cohort = DATA) -> LabelNoise:
    return LabelNoise.of(PARAMS, task, data, splits(data), "stores", ())


def scorer(each: LabelNoise) -> PairedScorer:
    return PairedScorer.of(each.task, collect_tested(DATA, each.splits, each.task), PARAMS.evaluation, 0)


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {patient for patient in before if before[patient] != after[patient]}


@pytest.mark.parametrize("classes", [2, 3, 4])
def test_the_matrix_flips_the_stated_share_more_of_earlier_classes(classes: int) -> None:
    matrix = transition_matrix(0.4, classes)
    assert matrix.sum(axis=1) == pytest.approx(1)
    rates = 1 - np.diag(matrix)
    assert rates.mean() == pytest.approx(0.4)
    assert (rates[0], rates[-1]) == pytest.approx((0.5, 0.3))
    assert (transition_matrix(0.0, classes) == np.eye(classes)).all()


def test_flips_have_the_frequencies_of_the_matrix() -> None:
    random = np.random.default_rng(0)
    labels, matrix = random.integers(0, 3, 60_000), transition_matrix(0.4, 3)
    flipped = flip_labels(labels, matrix, random.random((60_000, 2)))
    for y in range(3):
        frequency = np.bincount(flipped[labels == y], minlength=3) / (labels == y).sum()
        assert frequency == pytest.approx(matrix[y], abs=0.015)


def test_labels_are_flipped_at_the_noisy_sites_alike_in_every_fold_and_nested_by_share() -> None:
    each = replace(study(), n_sites=2)
    site_of = {case.patient_id: case.site for case in DATA.cases}
    flips = {(s, f): changed(each.true_labels(f), each.recorded_labels(s, f)) for s in (0.0, 0.2, 0.4) for f in (0, 1)}
    assert flips[0.0, 0] == flips[0.0, 1] == set()
    for fold in (0, 1):
        assert flips[0.2, fold] < flips[0.4, fold]
        assert {site_of[patient] for patient in flips[0.4, fold]} == set(each.sites)
    assert each.recorded_labels(0.4, 0) == each.recorded_labels(0.4, 0)
    assert len(each.sites) == 2


def test_labels_are_set_and_nothing_else() -> None:
    learning, task = study().fold(0).learning, study().task
    some = {case.patient_id: "low" for case in learning.cases[:10]}
    after = set_labels(learning, task, some)
    for i, (a, b) in enumerate(zip(learning.cases, after.cases, strict=True)):
        assert b.labels == ({"grade": "low"} if i < 10 else {})
        assert replace(b, labels=a.labels) == a


def test_every_share_has_its_arms_and_nothing_is_trained_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(noise, "cleanlab_is_there", lambda: False)
    each = study()
    result = score_noise(each, scorer(each), (0.0, 0.4))
    assert [(r["share"], r["arm"], r["model"]) for r in result["rows"]] == [
        (share, arm, model)
        for share in (0.0, 0.4)
        for arm in ("uncorrected", "corrected")
        for model in ("teacher", "student")
    ]
    assert result["patients"] == 60
    assert "pip install" in result["skipped"]["cleanlab"]
    clean, _, noisy, corrected = result["corrections"]
    assert (clean["flipped"], clean["changed"], clean["recall"]) == (0, 0, None)
    expected = sum(len(changed(each.true_labels(f), each.recorded_labels(0.4, f))) for f in (0, 1))
    assert noisy["flipped"] == corrected["flipped"] == expected > 5
    assert corrected["changed"] <= 0.1 * corrected["labelled"]
    assert len(flat_rows(result)) == 8
    assert all(row["difference_value"] == 0 for row in flat_rows(result) if row["arm"] == "uncorrected")

    def never(*_: object, **__: object) -> None:
        raise AssertionError("trained again")

    for name in ("train_teacher", "distill_student"):
        monkeypatch.setattr(label_study, name, never)
    assert score_noise(each, scorer(each), (0.0, 0.4)) == result
    with pytest.raises(AssertionError, match="trained again"):
        score_noise(each, scorer(each), (0.0, 0.8))


def test_labels_that_the_ensemble_is_sure_of_are_corrected_in_two_rounds_and_trained_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An ensemble whose out-of-fold predictions follow the genes that tell the grade, whatever it is trained with."""
    monkeypatch.chdir(tmp_path)
    trained: list[tuple[dict[str, str], tuple[str, ...]]] = []

    def train_models(self: LabelNoise, fold: Fold, names: Sequence[str]) -> Iterator[tuple[str, pd.DataFrame]]:
        trained.append(({c.patient_id: c.labels["grade"] for c in fold.learning.cases}, tuple(names)))
        for name in names:
            cases = (fold.learning if name == OUT_OF_FOLD else self.tested(fold.index)).cases
            p = 1 / (1 + np.exp(-4 * np.array([np.mean(case.expression[:5]) for case in cases])))
            yield name, pd.DataFrame({"patient_id": [c.patient_id for c in cases], "p_low": 1 - p, "p_high": p})

    monkeypatch.setattr(label_study.LabelStudy, "train_models", train_models)
    each = study(data=cohort(400, seed=4))
    truth, recorded, arms = each.true_labels(0), each.recorded_labels(0.4, 0), dict(each.arms(0.4, 0))
    each.outputs(0, arms["corrected"], each.names)
    counts = noise.count_corrections(truth, recorded, arms["corrected"])
    assert counts["flipped"] > 40
    assert 16 <= counts["changed"] <= 0.1 * 200
    assert counts["restored"] == counts["detected"] == counts["changed"]
    (first, _), (second, again), (last, names) = trained
    assert (first, last, names) == (recorded, arms["corrected"], ("teacher", "student"))
    assert again == (OUT_OF_FOLD,)
    assert changed(recorded, second) < changed(recorded, last)


def test_labels_of_test_patients_reach_neither_flips_nor_trainings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = cohort(90, seed=4)
    tested = {case.patient_id for case in study(data=data).tested(0).cases}
    other = {"low": "high", "high": "low"}
    spoiled = replace(
        data,
        cases=tuple(
            replace(c, labels={"grade": other[c.labels["grade"]]}) if c.patient_id in tested else c for c in data.cases
        ),
    )
    plain, poisoned = study(data=data), replace(study(data=spoiled), stores="others")
    assert not tested & set(plain.recorded_labels(0.4, 0))
    for (arm, one), (_, two) in zip(plain.arms(0.4, 0), poisoned.arms(0.4, 0), strict=True):
        assert one == two, arm
        pair = [each.outputs(0, labels, ("teacher",))["teacher"] for each, labels in ((plain, one), (poisoned, two))]
        assert pair[0].equals(pair[1]), arm


@pytest.mark.skipif(importlib.util.find_spec("cleanlab") is None, reason="the extra label-noise is not installed")
def test_cleanlab_removes_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    arms = dict(study().arms(0.4, 0))
    assert set(arms["cleanlab"]) < set(arms["uncorrected"])


def test_tasks_without_classes_are_refused() -> None:
    with pytest.raises(ConfigError, match="label noise flips classes, and survival has none"):
        study("survival")


@pytest.mark.parametrize("count", [0, 4])
def test_a_number_of_sites_that_is_not_there_is_refused(count: int) -> None:
    with pytest.raises(ConfigError, match=f"--sites {count}: the cohort has 3 sites with grade"):
        _ = replace(study(), n_sites=count).sites


@pytest.mark.parametrize("shares", [(), (-0.1, 0.2), (0.4, 0.2), (0.9,)])
def test_shares_must_increase_from_zero(shares: tuple[float, ...]) -> None:
    each = study()
    with pytest.raises(ConfigError, match="they must increase"):
        score_noise(each, scorer(each), shares)
