"""Parent and fold runs: which folds share a parent, what a killed run becomes, what the compare view gets."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs

import mlflow
import pandas as pd
import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run

from dml.config.params import Params
from dml.models import registry
from dml.tracking import lineage, run_reports, runs, store, ui_pages
from dml.tracking.fold_run import fold_run

Build = Callable[..., Params]
ROOT = Path(__file__).resolve().parents[3]


def runs_of(client: MlflowClient, experiment: str = "demo-survival") -> list[Run]:
    present = client.get_experiment_by_name(experiment)
    assert present is not None
    return list(client.search_runs([present.experiment_id], order_by=["attributes.start_time ASC"]))


def folds(client: MlflowClient) -> list[Run]:
    return [run for run in runs_of(client) if run.data.tags["level"] == "fold"]


def parents(client: MlflowClient) -> list[Run]:
    return [run for run in runs_of(client) if run.data.tags["level"] == "model"]


FOLD = """
import sys
from dml.config.params import Params
from dml.tracking.fold_run import fold_run
params = Params.model_validate({"cohort": "demo", "tasks": ["survival"], "folds": [0, 1]})
with fold_run(params, "survival", "teacher", int(sys.argv[1])) as run:
    run.log_metrics({"loss": 1.0})
    print("started", flush=True)
    sys.stdin.readline()
"""


def start(fold: int, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", FOLD, str(fold)], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


@pytest.mark.slow
def test_processes_started_together_on_a_new_store_join_one_parent(workplace: Path) -> None:
    processes = [start(fold, workplace) for fold in (0, 1)]
    for process in processes:
        process.communicate("\n", timeout=600)
    assert [process.returncode for process in processes] == [0, 0]
    client = store.connect()
    (parent,) = parents(client)
    assert [run.data.tags["mlflow.parentRunId"] for run in folds(client)] == [parent.info.run_id] * 2
    assert {run.info.run_name for run in folds(client)} == {"teacher-fold-0", "teacher-fold-1"}
    assert {run.info.status for run in runs_of(client)} == {"FINISHED"}


@pytest.mark.slow
def test_killed_run_is_failed_at_the_next_start(client: MlflowClient, workplace: Path, params: Build) -> None:
    process = start(0, workplace)
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    process.kill()
    process.communicate()
    assert [run.info.status for run in folds(client)] == ["RUNNING"]
    with fold_run(params(), "survival", "teacher", 1):
        assert [run.info.status for run in folds(client)] == ["FAILED", "RUNNING"]
    assert folds(client)[0].data.tags["ended"]
    assert [run.info.status for run in parents(client)] == ["FINISHED"]


def test_the_same_fold_still_running_is_replaced_and_a_finished_one_kept(client: MlflowClient, params: Build) -> None:
    with fold_run(params(), "survival", "teacher", 0):
        pass
    with fold_run(params(), "survival", "teacher", 0), fold_run(params(), "survival", "teacher", 0):
        assert [run.info.status for run in folds(client)] == ["FINISHED", "FAILED", "RUNNING"]


def test_parameters_but_not_the_fold_decide_the_parent(client: MlflowClient, params: Build) -> None:
    first = runs.parent_run(params(), "survival", "teacher")
    assert runs.parent_run(params(evaluation={"resamples": 5}), "survival", "teacher") == first
    assert runs.parent_run(params(optimisation={"epochs": 5}), "survival", "teacher") != first
    assert runs.parent_run(params(distillation={"feature_weight": 0}), "survival", "teacher") == first
    assert runs.parent_run(params(), "survival", "student") != first


def test_a_report_finds_the_run_of_the_training_whatever_params_yaml_says_since(
    client: MlflowClient, params: Build
) -> None:
    folder = Path("reports/demo/survival")
    folder.mkdir(parents=True)
    models = ("teacher", "student", "linear_slide", "abmil")
    (folder / "metrics.json").write_text(json.dumps({model: {"c_index": {"value": 0.7}} for model in models}))
    trained = params(optimisation={"epochs": 3}, baselines={"components": 5})
    content = trained.model_dump(mode="json")

    def stage(model: str, deps: tuple[str, ...] = (), **sections: object) -> dict[str, object]:
        outs, needed = (
            [{"path": f"models/demo/survival/{name}/fold-0"} for name in names] for names in ([model], deps)
        )
        return {"outs": outs, "deps": needed, "params": {"params.yaml": sections}}

    neural = {"optimisation": content["optimisation"]}
    stages = {
        "a": stage("student", ("teacher",), distillation=content["distillation"]),
        "b": stage("teacher", **neural, teacher=content["teacher"]),
        "c": stage("abmil", **neural),
        "d": stage("linear_slide", **{"baselines.components": 5}),
    }
    Path("dvc.lock").write_text(json.dumps({"stages": stages}))
    before = {model: runs.parent_run(trained, "survival", model) for model in models}
    since = params(optimisation={"epochs": 9}, baselines={"deep": []}, evaluation={"resamples": 5})
    assert run_reports.log_report(since, "survival", folder) == before
    assert len(parents(client)) == len(models)


@pytest.mark.parametrize("model", ["teacher", "student", "linear_slide", "abmil"])
def test_what_makes_another_run_makes_dvc_train_again(params: Build, model: str) -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    (stage,) = [stage for stage in stages.values() if any(makes(out, model) for out in stage["outs"])]
    taught = "teacher" if model == "student" else "-"  # reaches the student through the teacher's weights
    retraining = (*stage["params"], taught)
    names = lineage.flat(lineage.relevant(params(), model))
    assert [n for n in sorted(names) if not any(n == p or n.startswith(f"{p}.") for p in retraining)] == []


def test_pretraining_is_recorded_with_the_networks_that_may_start_from_it(params: Build, workplace: Path) -> None:
    on = params(pretraining={"cohorts": ("other",), "epochs": 3})
    assert lineage.relevant(on, "teacher")["pretraining"]["epochs"] == 3
    assert "pretraining" not in lineage.relevant(on, "linear_slide")
    assert "pretraining" not in lineage.relevant(params(), "student")
    weights, teacher = "data/demo/pretraining/fold-0", "models/demo/survival/teacher/fold-0"
    recorded = {"params.yaml": {"cohort": "demo", "pretraining.epochs": 4}}
    lock = {
        "pretrain@0": {"outs": [{"path": weights, "md5": "a.dir"}], "params": recorded},
        "train_teacher@0": {"deps": [{"path": weights}], "outs": [{"path": teacher, "md5": "b.dir"}]},
    }
    Path("dvc.lock").write_text(json.dumps({"stages": lock}))
    assert lineage.data_hashes("demo") == {}
    assert lineage.data_hashes("demo", pretrained=True) == {weights: "a.dir"}
    assert lineage.as_trained(on, "survival", "teacher").pretraining.epochs == 4


def makes(out: str, model: str) -> bool:
    """Whether an output in dvc.yaml is the fold of a model; ${item.model} stands for the deep baselines."""
    named = f"/{model}/fold-" in out
    return named or (model in registry.deep_names() and "/${item.model}/fold-" in out)


def test_changed_input_data_get_another_parent(client: MlflowClient, workplace: Path, params: Build) -> None:
    first = runs.parent_run(params(), "survival", "teacher")
    lock = {
        "stages": {
            "split": {"outs": [{"path": "data/demo/splits.parquet", "md5": "a" * 32}, {"path": "x", "md5": "b"}]}
        }
    }
    Path("dvc.lock").write_text(json.dumps(lock))
    second = runs.parent_run(params(), "survival", "teacher")
    assert second != first
    (dataset,) = client.get_run(second).inputs.dataset_inputs
    assert (dataset.dataset.name, dataset.dataset.digest) == ("data/demo/splits.parquet", "a" * 32)


def test_a_run_records_what_it_is_of(client: MlflowClient, params: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_STAGE", "train_teacher@survival-0")
    monkeypatch.setenv("DVC_EXP_NAME", "flat-olm")
    with fold_run(params(), "survival", "student", 1) as run:
        history = pd.DataFrame(
            {"epoch": [0, 1, 2], "train_loss": [3.0, 2.0, 1.0], "validation_loss": [3.0, float("nan"), 2.0]}
        )
        run.log_epochs(history)
        run.log_metrics({"best_epoch": 2, "nothing": float("nan")})
        Path("note.txt").write_text("hello")
        run.log_artifacts(Path("note.txt"))
    recorded = client.get_run(run.run_id)
    assert recorded.data.params["optimisation.learning_rate"] == "0.0005"
    assert (
        recorded.data.tags | {"DVC_STAGE": "train_teacher@survival-0", "DVC_EXP_NAME": "flat-olm"} == recorded.data.tags
    )
    assert [recorded.data.tags[key] for key in ("cohort", "task", "model", "fold")] == [
        "demo",
        "survival",
        "student",
        "1",
    ]
    steps = client.get_metric_history(run.run_id, "training/validation_loss")
    assert [(metric.step, metric.value) for metric in steps] == [(0, 3.0), (2, 2.0)]
    assert recorded.data.metrics["best_epoch"] == 2
    assert "nothing" not in recorded.data.metrics
    assert recorded.data.metrics["system/wall_seconds"] > 0
    assert [file.path for file in client.list_artifacts(run.run_id)] == ["note.txt"]


def test_an_error_in_training_is_passed_on_and_recorded(client: MlflowClient, params: Build) -> None:
    with pytest.raises(ZeroDivisionError), fold_run(params(), "survival", "teacher", 0):
        raise ZeroDivisionError
    with pytest.raises(KeyboardInterrupt), fold_run(params(), "survival", "teacher", 1):
        raise KeyboardInterrupt
    assert [run.info.status for run in folds(client)] == ["FAILED", "KILLED"]


def test_trouble_with_the_store_does_not_end_a_training(
    client: MlflowClient, params: Build, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with fold_run(params(), "survival", "teacher", 0) as run:
        run.log_artifacts(Path("absent.txt"))
        monkeypatch.setattr(run, "run_id", "gone")
        run.log_metrics({"loss": 1.0})
    assert "could not track artifact absent.txt" in caplog.text
    assert "could not track metrics" in caplog.text


def test_report_gives_every_model_the_same_keys_once(client: MlflowClient, params: Build) -> None:
    folder = Path("reports/demo/survival")
    (folder / "figures").mkdir(parents=True)
    (folder / "report.html").write_text("page")
    metric = {"value": 0.7, "ci_low": 0.6, "ci_high": 0.8, "folds": [0.65, 0.75]}
    models = ("teacher", "student", "student_undistilled")
    (folder / "metrics.json").write_text(
        json.dumps({model: {"c_index": metric, "auc": {"value": None}} for model in models})
    )
    for name in ("km_student.png", "km_student_undistilled.png", "forest.svg"):
        (folder / "figures" / name).write_text("figure")
    with fold_run(params(), "survival", "student", 1):
        pass
    logged = {
        model: client.get_run(run_id) for model, run_id in run_reports.log_report(params(), "survival", folder).items()
    }
    keys = {"c_index": 0.7, "range/c_index_low": 0.6, "range/c_index_high": 0.8}
    assert [run.data.metrics for run in logged.values()] == [keys] * 3
    assert folds(client)[0].data.metrics["c_index"] == 0.75
    note = logged["student"].data.tags["mlflow.note.content"]
    assert "Sees the slide only" in note
    assert "0.700 (0.600 to 0.800)" in note
    attached = {Path(file.path).name for file in client.list_artifacts(logged["student"].info.run_id, "report")}
    assert attached == {"metrics.json", "report.html", "km_student.png", "forest.svg"}
    run_reports.log_report(params(), "survival", folder)
    assert len(client.get_metric_history(logged["student"].info.run_id, "c_index")) == 1


def test_teachability_is_logged_once_on_the_runs_of_the_models(client: MlflowClient, params: Build) -> None:
    folder = Path("reports/demo/survival")
    (folder / "teachability").mkdir(parents=True)
    gaps = {"gap": {"difference": 0.1}, "teachable": {"difference": 0.04}}
    summary = {"protocols": {"patients": {"gaps": {"all": gaps}}, "sites": {"left_out": "one site"}}}
    share = {"value": 0.5}
    row = {"model": "student", "protocol": "patients", "group": "all", "teachable_share": share, "whole_share": share}
    (folder / "teachability/summary.json").write_text(json.dumps(summary))
    (folder / "details.json").write_text(json.dumps({"teachability": [row]}))
    with fold_run(params(), "survival", "student", 1):
        pass
    for _ in range(2):
        run_reports.log_teachability(params(), "survival", folder)
    run_id = runs.parent_run(params(), "survival", "student")
    logged = client.get_run(run_id).data.metrics
    assert logged["teachability/patients_teachable_share_closed"] == 0.5
    assert logged["teachability/patients_gap"] == 0.1
    assert len(client.get_metric_history(run_id, "teachability/patients_gap")) == 1


def test_a_page_lists_one_row_a_model_the_best_first(client: MlflowClient, params: Build) -> None:
    folder = Path("reports/demo/survival")
    folder.mkdir(parents=True)
    metrics = {name: {"value": 0.7} for name in ("auc_1y", "c_index", "ibs")}
    (folder / "metrics.json").write_text(json.dumps(dict.fromkeys(("teacher", "student"), metrics)))
    with fold_run(params(), "survival", "student", 1):
        pass
    run_reports.log_report(params(), "survival", folder)
    experiment = client.get_experiment_by_name("demo-survival")
    assert experiment is not None
    address, _, query = ui_pages.pages(client)["demo-survival"].partition("?")
    assert address == f"#/experiments/{experiment.experiment_id}/runs"
    given = parse_qs(query)
    rows = client.search_runs([experiment.experiment_id], given["searchFilter"][0], order_by=given["orderByKey"])
    assert {run.info.run_name for run in rows} == {"teacher", "student"}
    assert (given["orderByKey"], given["orderByAsc"]) == (["metrics.`c_index`"], ["false"])


def test_the_pinned_mlflow_reads_filter_and_order_from_the_address() -> None:
    scripts = Path(mlflow.__file__).parent / "server/js/build/static/js"
    names = '"searchFilter","orderByKey","orderByAsc"'
    assert any(names in script.read_text(errors="replace") for script in scripts.glob("*.js"))


def test_any_name_of_a_class_can_be_part_of_a_metric(client: MlflowClient, params: Build) -> None:
    with fold_run(params(), "survival", "teacher", 0) as run:
        run.log_metrics({"recall_IDH+ (1p/19q), 50%": 0.5, "recall_IDH- (1p/19q), 50%": 0.25})
    metrics = client.get_run(run.run_id).data.metrics
    assert sorted(value for key, value in metrics.items() if key.startswith("recall")) == [0.25, 0.5]
