"""The MLflow run of one fold, nested in the run of its model; one experiment per cohort and task.

Each fold is a process of its own (a DVC stage); folds meet in a common parent by a key made of the model's name, its
parameters and the hashes of its input data. Tracking never decides a result: a store that cannot be reached is an error
before training starts, and trouble after that is a warning.
"""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from dml.config.params import Params
from dml.core.files import digest
from dml.tracking import lineage, runs, store
from dml.tracking.costs import ResourceUsage
from dml.tracking.runs import warn_if_untracked

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient

WEIGHTS = ".safetensors"


class FoldRun:
    """The run of one fold while it trains; what it logs is written in batches and never raises."""

    def __init__(self, client: "MlflowClient", run_id: str) -> None:
        self._client, self.run_id = client, run_id

    def log_epochs(self, history: "pd.DataFrame") -> None:
        """Log the training history: column ``epoch`` (the step), one column per metric, a row per epoch.

        The keys are ``training/<column>``, so that the pages show the curves apart from the test metrics. With several
        members (column ``member``) that is the mean of those still training, beside ``member_<i>/<column>``. The mark
        of the best epoch (column ``best``) is no curve and is left to history.csv.
        """
        history = history.drop(columns="best", errors="ignore")
        mean = history.drop(columns="member", errors="ignore").groupby("epoch", as_index=False).mean()
        points = _points(mean, "training/")
        members = history.groupby("member") if "member" in history.columns and history["member"].nunique() > 1 else ()
        for member, rows in members:
            points += _points(rows.drop(columns="member"), f"member_{member}/")
        with warn_if_untracked("the training history"):
            runs.log_points(self._client, self.run_id, points)

    def log_metrics(self, values: Mapping[str, float]) -> None:
        """Log single numbers; the ones that are not finite are left out."""
        with warn_if_untracked("metrics"):
            runs.log_metrics(self._client, self.run_id, values)

    def log_artifacts(self, path: Path) -> None:
        """Attach a file, or the files of a folder but not its weights (DVC and the registry keep those)."""
        files = [file for file in sorted(path.iterdir()) if file.suffix != WEIGHTS] if path.is_dir() else [path]
        with warn_if_untracked(f"artifact {path}"):
            for file in files:
                self._client.log_artifact(self.run_id, str(file))


def _points(history: "pd.DataFrame", prefix: str) -> list[tuple[str, float, int]]:
    names = history.columns.drop("epoch")
    steps = history["epoch"].astype(int)
    return [(f"{prefix}{n}", float(v), int(s)) for n in names for v, s in zip(history[n], steps, strict=True)]


@contextlib.contextmanager
def fold_run(params: Params, task: str, model: str, fold: int) -> Iterator[FoldRun]:
    """Track one fold of one model, nested in the run of the model.

    Parameters
    ----------
    params : Params
        The whole of params.yaml; decides, with the input data, which parent run the fold joins.
    task : str
        ``survival`` or the name of a label.
    model : str
        Key of the model registry.
    fold : int
        Outer test fold.

    Raises
    ------
    TrackingError
        Before the body runs, if the store cannot be opened.
    """
    client = store.connect()
    parent = runs.parent_run(params, task, model)
    experiment = str(client.get_run(parent).info.experiment_id)
    key = digest(lineage.group_key(params, task, model), fold)
    runs.fail_orphaned_runs(client, experiment, key)
    tags = {**lineage.tags(params, task, model), "level": "fold", "fold": str(fold), "fold_key": key}
    run = client.create_run(experiment, run_name=f"{model}-fold-{fold}", tags={**tags, "mlflow.parentRunId": parent})
    run_id = str(run.info.run_id)
    client.update_run(parent, status="RUNNING")
    runs.log_params_and_inputs(client, run_id, params, lineage.relevant(params, model))
    usage, status = ResourceUsage(), "KILLED"
    try:
        yield FoldRun(client, run_id)
        status = "FINISHED"
    except Exception:
        status = "FAILED"
        raise
    finally:
        with warn_if_untracked("the end of the run"):
            runs.log_metrics(client, run_id, usage.metrics())
            client.set_terminated(run_id, status)
            runs.finish_parent_run(client, experiment, parent)
