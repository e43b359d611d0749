"""What training cost: helpers are counted, and each fold is summed once."""

from collections.abc import Callable

from mlflow import MlflowClient

from dml.config.params import Params
from dml.core.fork_map import fork_map
from dml.tracking import costs, store
from dml.tracking.fold_run import fold_run

Build = Callable[..., Params]


def spend(params: Params, model: str, fold: int, wall: float, memory: float) -> None:
    """Leave a run with these costs; what was measured is overwritten, the last value of a metric counts."""
    with fold_run(params, "survival", model, fold) as run:
        pass
    client: MlflowClient = store.connect()
    client.log_metric(run.run_id, costs.WALL, wall, step=1)
    client.log_metric(run.run_id, costs.MEMORY, memory, step=1)


def test_the_last_finished_run_of_every_fold_counts(workplace: object, params: Build) -> None:
    demo = params()
    spend(demo, "teacher", 0, 100.0, 900.0)  # trained again below
    spend(demo, "teacher", 0, 10.0, 300.0)
    spend(demo, "teacher", 1, 20.5, 200.0)
    spend(demo, "linear_slide", 0, 1.0, 150.0)
    rows = costs.cost_rows(demo.cohort, "survival")
    assert [row["model"] for row in rows] == ["teacher", "linear_slide"]
    teacher = rows[0]
    assert (teacher["folds"], teacher["seconds"], teacher["peak_megabytes"]) == (2, 30.5, 300)
    assert teacher["cpu_seconds"] >= 0


def test_no_runs_no_rows(workplace: object) -> None:
    assert costs.cost_rows("nobody", "survival") == []


def test_processes_that_helped_are_counted() -> None:
    usage = costs.ResourceUsage()
    here, before = sum(range(1000)), usage.metrics()[costs.CPU]
    assert fork_map(lambda i: sum(range(3_000_000)), 4, 2) == [sum(range(3_000_000))] * 4
    assert here == 499_500
    assert usage.metrics()[costs.CPU] > before + 0.05
