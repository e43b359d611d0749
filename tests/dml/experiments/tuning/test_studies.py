"""Studies: judged without test patients, shared by workers, resumed after a kill, applied, reported."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import optuna
import pytest
import torch
import yaml
from mlflow import MlflowClient
from optuna.trial import TrialState

from dml.cli.ui_servers import commands
from dml.config.params import Params, load
from dml.core.errors import DmlError, InputError
from dml.core.types import Survival
from dml.experiments.tuning import studies, worker
from dml.experiments.tuning.apply_best import apply_best
from dml.experiments.tuning.mlflow_recorder import Recorder
from dml.experiments.tuning.objective import Objective
from dml.experiments.tuning.pruner import FoldPruner, TrialProgress
from dml.experiments.tuning.report import write_report
from dml.experiments.tuning.studies import journal_path, load_study, open_study
from dml.tracking import ui_pages
from tests.planted_store import CONTENT, PARAMS, Planted, job, splits, states, tuned
from tests.synthetic import cohort


@pytest.mark.parametrize("metric", ["validation_loss", "c_index"])
def test_test_patients_do_not_reach_the_objective(metric: str) -> None:
    data = cohort(40)
    table = splits(data)
    params = tuned(objective=metric, second_objective="gflops")
    tested = set(table.loc[(table["fold"] == 0) & (table["role"] == "test"), "patient_id"])

    def poisoned(case: Any) -> Any:
        if case.patient_id not in tested:
            return case
        bags = {m: replace(bag, tokens=torch.full_like(bag.tokens, 1e4)) for m, bag in case.bags.items()}
        return replace(case, bags=bags, expression=case.expression * 100, survival=Survival(1.0, True))

    spoilt = replace(data, cases=tuple(map(poisoned, data.cases)))
    clean, other = (Objective.of(params, "teacher", "survival", d, table) for d in (data, spoilt))
    assert clean.score(params, 0) == other.score(params, 0)
    judged = {case.patient_id for fold in clean.folds.values() for case in fold.validation().cases if fold.index == 0}
    assert not judged & tested


def test_equal_seeds_make_equal_studies(here: Path) -> None:
    for name in ("a", "b"):
        worker.run_trials(job(4, name=name), Planted())
    one, other = ([trial.params for trial in load_study(name).get_trials()] for name in ("a", "b"))
    assert one == other


def test_values_that_cannot_be_trained_with_end_their_trial_and_not_the_study(here: Path) -> None:
    def diverge(params: Params) -> None:
        if params.optimisation.learning_rate > 5e-3:
            raise DmlError("training diverged in epoch 0")

    worker.run_trials(job(8), Planted(diverge))
    trials = load_study("s").get_trials()
    spoilt = [trial for trial in trials if trial.params["optimisation.learning_rate"] > 5e-3]
    assert 0 < len(spoilt) < 8
    assert all(t.state == TrialState.PRUNED and "diverged" in t.user_attrs["infeasible"] for t in spoilt)


def test_folds_are_compared_with_the_same_folds_of_complete_trials() -> None:
    study = optuna.create_study(pruner=FoldPruner(2))
    for value in (1.0, 2.0):
        trial = study.ask()
        trial.report(value, 0)  # the first fold is easy for all
        trial.report(value + 1, 1)
        study.tell(trial, value + 1)
    good, bad = study.ask(), study.ask()
    good.report(1.4, 0)
    bad.report(1.4, 0)
    assert not good.should_prune()
    bad.report(2.6, 1)
    assert bad.should_prune()


def test_a_trial_ends_inside_a_fold_once_it_is_behind_the_same_epoch_of_others() -> None:
    study = optuna.create_study(pruner=FoldPruner(2, steps=4))

    def run(losses: Sequence[float]) -> int:
        """Train one fold of one member; return the epochs it took."""
        progress = TrialProgress(study.ask(), steps=4, min_epochs=1)
        for epoch, loss in enumerate(losses):
            try:
                progress.end_epoch(epoch, loss)
            except optuna.TrialPruned:
                study.tell(progress.trial, state=TrialState.PRUNED)
                return epoch + 1
        progress.end_fold(min(losses), last=True)
        study.tell(progress.trial, progress.mean)
        return len(losses)

    assert run([3.0, 2.0, 1.0]) == 3
    assert run([3.0, 2.0]) == 2
    assert run([9.0, 1.5, 1.0]) == 3  # behind only within the grace
    assert run([3.0, 2.5, 0.1]) == 2
    assert run([1.0, 1.0, 1.2]) == 3  # one that stopped early counts with its last value; the best epoch counts


def test_the_mean_so_far_is_over_members_and_folds() -> None:
    study = optuna.create_study(pruner=FoldPruner(5, steps=5))
    trial = study.ask()
    progress = TrialProgress(trial, steps=5, min_epochs=0)
    for epoch, loss in [(0, 4.0), (1, 2.0), (0, 6.0)]:  # the second member begins
        progress.end_epoch(epoch, loss)
    progress.end_fold(3.0, last=False)
    progress.end_epoch(0, 5.0)
    reported = study.trials[0].intermediate_values
    assert reported == {0: 4.0, 1: 2.0, 2: 4.0, 4: 3.0, 5: 4.0}


def test_quality_against_cost_has_a_front_to_choose_from(here: Path) -> None:
    path = Path("params.yaml")
    path.write_text(yaml.safe_dump(CONTENT))
    params = tuned(second_objective="gflops", n_startup_trials=1)
    worker.run_trials(job(8, params=params), Planted())
    study = load_study("s")
    assert states(study) == ["COMPLETE"] * 8
    said = json.loads((write_report(study, params) / "study.json").read_text())
    rows = {row["trial"]: row for row in said["trials"]}
    best = min(rows.values(), key=lambda row: row["value"])
    cheapest = min(rows.values(), key=lambda row: row["gflops"])
    assert said["best"]["trial"] == best["trial"]
    assert {best["trial"], cheapest["trial"]} <= set(said["front"])
    assert all(
        not (other["value"] < rows[n]["value"] and other["gflops"] < rows[n]["gflops"])
        for n in said["front"]
        for other in rows.values()
    )
    assert apply_best("s", path)[1].number == best["trial"]
    assert apply_best("s", path, number=cheapest["trial"])[1].number == cheapest["trial"]
    assert load(path).optimisation.learning_rate == cheapest["values"]["optimisation.learning_rate"]
    with pytest.raises(InputError, match="trial 99 is not among its finished"):
        apply_best("s", path, number=99)


def test_a_wider_model_costs_more() -> None:
    data = cohort(12)
    table = splits(data)
    costs = []
    for width in (8, 16):
        params = tuned(second_objective="gflops")
        wide = params.model_copy(update={"model": params.model.model_copy(update={"width": width})})
        costs.append(Objective.of(wide, "teacher", "grade", data, table).score(wide, 0).gflops)
    assert costs[0] is not None
    assert costs[1] is not None
    assert 0 < costs[0] < costs[1]


@pytest.mark.parametrize("kind", ["random", "gp", "nsga2"])
def test_samplers_other_than_the_default(here: Path, kind: str) -> None:
    worker.run_trials(job(4, params=tuned(sampler=kind)), Planted())
    rates = {trial.params["optimisation.learning_rate"] for trial in load_study("s").get_trials()}
    assert len(rates) == 4


def test_the_best_is_applied_and_reported(here: Path) -> None:
    path = Path("params.yaml")
    path.write_text("# mine\n" + yaml.safe_dump(CONTENT))
    with pytest.raises(InputError, match="no such study"):
        apply_best("s", path)
    open_study(job())
    with pytest.raises(InputError, match="no finished trial"):
        apply_best("s", path)
    worker.run_trials(job(6), Planted())
    study = load_study("s")
    diff, best = apply_best("s", path)
    assert load(path).optimisation.learning_rate == best.user_attrs["values"]["optimisation.learning_rate"]
    assert "# mine" in path.read_text()
    assert "+  learning_rate" in diff
    folder = write_report(study, PARAMS)
    said = json.loads((folder / "study.json").read_text())
    assert folder == Path("reports/synthetic/survival/tuning/s")
    assert said["best"]["value"] == study.best_value < said["reference"]["value"]
    assert {"study.md", "history.svg", "slices.svg"} <= {file.name for file in folder.iterdir()}
    path.write_text(yaml.safe_dump({**CONTENT, "cohort": "another"}))
    with pytest.raises(InputError, match="dml cohort use synthetic"):
        apply_best("s", path)


def test_every_trial_is_a_nested_run_once(client: MlflowClient) -> None:
    worker.run_trials(job(2), Planted())
    study = load_study("s")
    Recorder(job()).catch_up(study)
    Recorder(job()).finish(study, write_report(study, PARAMS))
    experiment = client.get_experiment_by_name("synthetic-survival-tuning")
    assert experiment is not None
    runs = list(client.search_runs([experiment.experiment_id]))
    (parent,) = [run for run in runs if run.data.tags["level"] == "study"]
    trials = [run for run in runs if run.data.tags["level"] == "trial"]
    assert sorted(run.data.tags["trial"] for run in trials) == ["0", "1"]
    assert {run.data.tags["mlflow.parentRunId"] for run in trials} == {parent.info.run_id}
    assert {run.data.tags["study"] for run in runs} == {"s"}
    assert all(set(run.data.params) == {"optimisation.learning_rate"} for run in trials)
    assert parent.data.metrics["validation_loss"] == study.best_value
    query = parse_qs(ui_pages.pages(client)["s"].partition("?")[2])
    listed = client.search_runs([experiment.experiment_id], query["searchFilter"][0], order_by=query["orderByKey"])
    assert {run.info.run_id for run in listed} == {run.info.run_id for run in trials}
    assert query["orderByAsc"] == ["true"]  # the lowest validation loss first


def test_a_trial_that_was_not_written_before_a_kill_is_written_at_the_next_start(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "trial", lambda *arguments: None)
        worker.run_trials(job(2), Planted())
    Recorder(job()).catch_up(load_study("s"))
    experiment = client.get_experiment_by_name("synthetic-survival-tuning")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], "tags.level = 'trial'")
    assert {run.data.tags["trial"] for run in found} == {"0", "1"}


def test_the_dashboard_shows_the_study_asked_for_or_the_latest(client: MlflowClient) -> None:
    studies.STUDIES.mkdir()
    for name in ("b", "a"):
        journal_path(name).write_text("")
    latest, named = commands(5000)["Optuna dashboard"], commands(5000, "b")["Optuna dashboard"]
    assert "studies/a.journal" in latest.words
    assert "studies/b.journal" in named.words
    assert "sqlite:///x.db" in commands(5000, "sqlite:///x.db")["Optuna dashboard"].words
    with pytest.raises(InputError, match="there are: a, b"):
        commands(5000, "c")
