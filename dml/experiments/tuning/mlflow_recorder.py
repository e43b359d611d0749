"""Log studies to MLflow: one experiment per cohort and task, a run per study, a nested run per finished trial.

A trial is logged after it ended, in four calls; Optuna's storage is the record, and an error of MLflow a warning.
"""

import functools
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from optuna import Study
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from dml.core.files import only_writer
from dml.experiments.tuning.studies import StudyJob, best_trial
from dml.tracking import lineage, runs, store, ui_pages

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_ENDS = {TrialState.COMPLETE: "FINISHED", TrialState.PRUNED: "KILLED", TrialState.FAIL: "FAILED"}
_TAGGED = ("origin", "retry_of", "infeasible")


class Recorder:
    """Logs the trials of one study."""

    def __init__(self, job: StudyJob) -> None:
        self._job = job

    @runs.warn_if_untracked("the study")
    def trial(self, study: Study, trial: FrozenTrial) -> None:
        """Log a trial that ended."""
        self._write(trial)

    @runs.warn_if_untracked("the study")
    def catch_up(self, study: Study) -> None:
        """Log the trials that ended without being logged: their worker was killed in between."""
        written = {run.data.tags.get("trial") for run in self._runs("trial")}
        for trial in study.get_trials(deepcopy=False, states=tuple(_ENDS)):
            if str(trial.number) not in written:
                self._write(trial)

    @runs.warn_if_untracked("the study")
    def finish(self, study: Study, report: Path) -> None:
        """Put the best trial's numbers and the report on the run of the study."""
        best, complete = best_trial(study), study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if best is not None:
            values = dict(zip((self._metric, "gflops"), best.values, strict=False))
            runs.log_metrics(self._client, self._parent, {**values, "trials": float(len(complete))})
            self._client.set_tag(self._parent, "best_trial", str(best.number))
        for file in sorted(report.iterdir()):
            self._client.log_artifact(self._parent, str(file), "report")
        trials, minimised = self._query("trial"), study.directions[0] == StudyDirection.MINIMIZE
        ui_pages.save_page(self._client, self._experiment, self._job.name, trials, self._metric, minimised)

    @property
    def _metric(self) -> str:
        return self._job.params.tuning.objective

    @functools.cached_property
    def _client(self) -> "MlflowClient":
        return store.connect()

    @functools.cached_property
    def _experiment(self) -> str:
        return store.experiment(self._client, f"{self._job.params.cohort}-{self._job.task}-tuning")

    @functools.cached_property
    def _tags(self) -> Mapping[str, str]:
        job = self._job
        return {**lineage.tags(job.params, job.task, job.kind), "study": job.name, "kind": job.kind}

    @functools.cached_property
    def _parent(self) -> str:
        """Run of the study, created if there is none."""
        with only_writer("runs", folder=store.lock_folder()):
            if existing := self._runs("study"):
                return str(existing[0].info.run_id)
            tags = {**self._tags, "level": "study"}
            run_id = str(self._client.create_run(self._experiment, run_name=self._job.name, tags=tags).info.run_id)
            fixed = lineage.relevant(self._job.params, self._job.kind)
            runs.log_params_and_inputs(self._client, run_id, self._job.params, fixed)
            self._client.set_terminated(run_id, "FINISHED")
        return run_id

    def _runs(self, level: str) -> list["Run"]:
        return runs.search(self._client, self._experiment, self._query(level))

    def _query(self, level: str) -> str:
        return f"tags.level = '{level}' and tags.study = '{self._job.name}'"

    def _write(self, trial: FrozenTrial) -> None:
        from mlflow.entities import Param

        began, ended = (_milliseconds(time) for time in (trial.datetime_start, trial.datetime_complete))
        attributes = {name: str(trial.user_attrs[name]) for name in _TAGGED if name in trial.user_attrs}
        identity = {"level": "trial", "trial": str(trial.number), "state": trial.state.name.lower()}
        tags = {**self._tags, **attributes, **identity, "mlflow.parentRunId": self._parent}
        name = f"{self._job.kind}-trial-{trial.number}"
        run = self._client.create_run(self._experiment, start_time=began, run_name=name, tags=tags)
        run_id = str(run.info.run_id)
        values = lineage.flat(trial.user_attrs.get("values", trial.params))
        self._client.log_batch(run_id, params=[Param(key, value) for key, value in sorted(values.items())])
        runs.log_points(self._client, run_id, self._points(trial))
        self._client.set_terminated(run_id, _ENDS[trial.state], ended)

    def _points(self, trial: FrozenTrial) -> list[tuple[str, float, int]]:
        """Return the mean so far after each epoch and fold (the last is the objective), and the value of each fold."""
        means = [(self._metric, value, step) for step, value in sorted(trial.intermediate_values.items())]
        folds = [(key, float(value), 0) for key, value in trial.user_attrs.items() if key.startswith("fold_")]
        seconds = [("seconds", trial.duration.total_seconds(), 0)] if trial.duration else []
        values = trial.values or []
        objectives = [(self._metric, values[0], 0), ("gflops", values[1], 0)] if len(values) > 1 else []
        return means + folds + seconds + objectives


def _milliseconds(time: datetime | None) -> int | None:
    return int(time.timestamp() * 1000) if time else None
