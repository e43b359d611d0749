"""Label-fraction curve: who keeps an outcome, what is trained on it, and that nothing is trained twice."""

from pathlib import Path

import pytest

from dml.config import params as config
from dml.core.errors import ConfigError
from dml.core.tasks import SurvivalTask, make_task
from dml.core.types import Cohort
from dml.probes import label_study as module
from dml.probes.label_fraction import ARMS, LabelFractions, hide_outcomes, score_fractions
from dml.probes.label_study import collect_tested
from dml.probes.paired_scorer import PairedScorer
from dml.training.folds import make_fold
from tests.dml.probes.conftest import splits
from tests.synthetic import cohort

DATA = cohort(60, seed=4)
PARAMS = config.Params(
    cohort="synthetic",
    tasks=("survival", "grade"),
    folds=(0, 1),
    model=config.Model(width=8, heads=2, n_queries=2, gene_width=8),
    optimisation=config.Optimisation(epochs=1, batch_size=16, device="cpu"),
    evaluation=config.Evaluation(resamples=50),
)


def study(task: str, models: tuple[str, ...] = ()) -> LabelFractions:
    return LabelFractions.of(PARAMS, task, DATA, splits(DATA), "stores", models)


def scorer(each: LabelFractions) -> PairedScorer:
    return PairedScorer.of(each.task, collect_tested(DATA, each.splits, each.task), PARAMS.evaluation, 0)


def known(data: Cohort, task: str) -> set[str]:
    return {case.patient_id for case in data.cases if case.has_target(task)}


@pytest.mark.parametrize("name", ["survival", "grade", "score"])
def test_outcomes_are_hidden_and_nothing_else(name: str) -> None:
    fold, task = make_fold(DATA, splits(DATA), 0), make_task(name, DATA.classes)
    shown = [known(hide_outcomes(fold, task, fraction, 1), name) for fraction in (0.2, 0.5, 1.0)]
    assert shown[0] < shown[1] < shown[2] == known(fold.learning, name)
    assert len(shown[1]) / len(shown[2]) == pytest.approx(0.5, abs=0.1)
    hidden = hide_outcomes(fold, task, 0.2, 1)
    for before, after in zip(fold.learning.cases, hidden.cases, strict=True):
        assert (before.bags is after.bags, before.expression is after.expression) == (True, True)
        others = {"survival", "grade", "score"} - {name}
        assert all(before.target(other) == after.target(other) for other in others)


def test_every_inner_fold_and_class_has_an_outcome_left() -> None:
    fold = make_fold(DATA, splits(DATA), 1)
    hidden = hide_outcomes(fold, make_task("grade", DATA.classes), 0.01, 1)
    left = {(fold.inner_fold_of.get(c.patient_id), c.labels["grade"]) for c in hidden.cases if "grade" in c.labels}
    assert len(left) == 2 * len({fold.inner_fold_of.get(c.patient_id) for c in fold.learning.cases})


@pytest.mark.parametrize("task", ["survival", "grade"])
def test_curves_have_all_arms_and_end_at_all_outcomes(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    each = study(task, ("abmil",))
    result = score_fractions(each, scorer(each), (0.4, 1.0))
    assert list(result["arms"]) == [*ARMS, "abmil"]
    assert result["patients"] == 60
    assert all(curve[-1]["difference"]["difference"] == 0 for curve in result["arms"].values())
    gained = result["distillation"]["student_undistilled"]["0.4"]
    student, plain = (result["arms"][arm][0]["value"] for arm in ("student", "student_undistilled"))
    assert gained["difference"] == pytest.approx(student - plain, abs=2e-6)

    def never(*_: object, **__: object) -> None:
        raise AssertionError("trained again")

    for name in ("train_teacher", "distill_student", "train_baseline"):
        monkeypatch.setattr(module, name, never)
    assert score_fractions(each, scorer(each), (0.4, 1.0)) == result
    with pytest.raises(AssertionError, match="trained again"):
        score_fractions(each, scorer(each), (0.5, 1.0))


def test_hidden_outcomes_do_not_reach_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the hidden outcomes are, the predictions are the same."""
    from dataclasses import replace

    from dml.core.types import Survival

    monkeypatch.chdir(tmp_path)
    fold = make_fold(DATA, splits(DATA), 0)
    shown = known(hide_outcomes(fold, SurvivalTask(), 0.5, PARAMS.seed), "survival")
    tested = {c.patient_id for c in DATA.cases} - {c.patient_id for c in fold.learning.cases}
    spoiled = tuple(
        c if c.patient_id in shown | tested else replace(c, survival=Survival(1.0 + i, c.survival.event))
        for i, c in enumerate(DATA.cases)
    )
    plain = study("survival").predictions(0.5, 0)
    other = replace(study("survival"), cohort=replace(DATA, cases=spoiled), stores="others").predictions(0.5, 0)
    for arm in ARMS:
        assert plain[arm].equals(other[arm]), arm


@pytest.mark.parametrize("fractions", [(), (0.0, 1.0), (0.5, 0.1), (0.5, 1.1)])
def test_fractions_must_increase_inside_of_zero_and_one(fractions: tuple[float, ...]) -> None:
    each = study("survival")
    with pytest.raises(ConfigError, match="they must increase, above 0 and at most 1"):
        score_fractions(each, scorer(each), fractions)


def test_a_task_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match="no task 'stage'"):
        study("stage")
