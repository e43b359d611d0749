"""The command line: quick to start, clear when it refuses."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
import yaml
from typer.main import get_command

import dml.cli
from dml.cli import output
from dml.cli.app import app
from dml.cli.ui_servers import commands
from dml.core.errors import Busy, CheckFailed, ConfigError, DmlError, GateFailed, InputError, TrackingError
from dml.core.files import write_parquet
from tests import painted

ROOT = Path(dml.cli.__file__).parents[2]
Dml = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Dml:
    """Run ``dml`` in an empty folder with parameters; return exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    monkeypatch.setenv("COLUMNS", "200")
    Path("params.yaml").write_text(yaml.safe_dump({"cohort": "demo", "tasks": ["survival"], "folds": [0, 1]}))

    def command(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["dml", *arguments])
        with pytest.raises(SystemExit) as ended:
            dml.cli.main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return command


def test_importing_the_command_line_imports_nothing_heavy() -> None:
    heavy = ("torch", "mlflow", "pandas", "numpy", "pyarrow", "openslide", "great_expectations", "dvc", "optuna")
    code = f"import sys, dml.cli; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_help_names_every_command_and_the_exit_codes(run: Dml) -> None:
    code, out, _ = run("--help")
    assert code == 0
    commands = ("doctor", "cohort", "features", "predict", "validate-external", "registry", "promote", "rollback", "ui")
    for command in (*commands, "results", "tune", "migrate", "ablate", "reproduce", "probe"):
        assert command in out
    assert "4 a promotion gate" in out


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DmlError("broken"), 1),
        (InputError("a.csv", "broken", "Mend it"), 2),
        (ConfigError("broken"), 2),
        (CheckFailed("broken"), 3),
        (GateFailed("broken"), 4),
        (Busy("broken"), 5),
        (TrackingError("broken"), 6),
    ],
)
def test_each_user_error_has_its_exit_code_and_no_traceback(
    run: Dml, monkeypatch: pytest.MonkeyPatch, error: DmlError, code: int
) -> None:
    def raising(*_: object) -> None:
        raise error

    monkeypatch.setattr("dml.cli.result_rows.registered_rows", raising)
    found, out, err = run("registry", "ls")
    assert (found, out) == (code, "")
    assert "error: " in err
    assert "broken" in err
    assert "Traceback" not in err


def test_every_command_that_shows_something_can_say_it_to_a_machine() -> None:
    names = {"doctor", "results", "predict", "validate-external", "promote", "rollback", "ablate", "reproduce"}
    commands = get_command(app).commands  # type: ignore[attr-defined]
    listed = {name: commands[name] for name in names} | commands["tune"].commands
    shown = {name: command for name, command in listed.items() if not command.hidden}
    without = [name for name, command in shown.items() if not any("--json" in o.opts for o in command.params)]
    assert without == []


def test_completion_can_be_installed_and_knows_the_commands() -> None:
    asked = {"_DML_COMPLETE": "complete_bash", "COMP_WORDS": "dml pro", "COMP_CWORD": "1"}
    program = Path(sys.executable).with_name("dml")
    done = subprocess.run([program], env=os.environ | asked, capture_output=True, text=True, check=False, cwd=ROOT)
    assert "promote" in done.stdout.split()
    helped = subprocess.run([program, "--help"], capture_output=True, text=True, check=True, cwd=ROOT)
    assert "--install-completion" in helped.stdout


def test_a_full_disk_is_a_message_without_a_traceback(run: Dml, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "out.csv")

    monkeypatch.setattr("dml.cli.result_rows.registered_rows", full)
    code, _, err = run("registry", "ls")
    assert code == 1
    assert err.startswith("error: the disk is full ([Errno 28] No space left on device: 'out.csv')")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (("apply", "study", "--trial", "3"), "dml tune apply"),
        (("external", "--model", "m"), "dml validate-external"),
        (("probe", "shuffle-labels", "--task", "survival"), "dml probe permutation-test"),
        (("tune", "distil", "--task", "survival"), "dml tune student"),
        (("tune", "teacher", "--task", "t", "--trials", "1", "--adopt"), "dml tune --reclaim-stale"),
    ],
)
def test_an_old_name_is_refused_with_the_present_one(run: Dml, old: tuple[str, ...], new: str) -> None:
    code, out, err = run(*old)
    assert (code, out) == (2, "")
    assert f"renamed: {new}" in err


def test_migrate_rewrites_params_and_cohorts_and_says_what_changed(run: Dml) -> None:
    Path("params.yaml").write_text("cohort: demo\ntasks: [survival]\nfolds: [0, 1]\nmodel: {references: 8}  # eight\n")
    Path("cohorts").mkdir()
    Path("cohorts/mine.yaml").write_text("name: mine\nparams: {optimisation: {members: 3}}\n")
    assert "dml migrate" in run("cohort", "show")[2]
    code, out, _ = run("migrate")
    assert code == 0
    assert "+model: {n_queries: 8}" in out
    assert "ensemble_size: 3" in Path("cohorts/mine.yaml").read_text()
    assert "no old name" in run("migrate", "params.yaml")[1]


def test_unknown_command_and_option_are_usage_errors(run: Dml) -> None:
    assert run("nonsense")[0] == 2
    assert run("registry", "ls", "--nonsense")[0] == 2


def test_wrong_parameters_are_explained(run: Dml) -> None:
    Path("params.yaml").write_text("cohort: demo\ntasks: [survival]\nfolds: [0, 1]\nepoch: 3\n")
    code, _, err = run("cohort", "show")
    assert code == 2
    assert "epoch: unknown key" in err


def test_empty_registry_is_an_empty_list(run: Dml) -> None:
    code, out, _ = run("registry", "ls", "--json")
    assert (code, json.loads(out)) == (0, [])


def test_predict_refuses_an_unknown_format_before_anything_else(run: Dml) -> None:
    code, _, err = run("predict", "--model", "m@champion", "--slides", "s.svs", "--out", "out.xlsx")
    assert code == 2
    assert ".csv, .parquet, .json" in err


def test_predict_with_an_unknown_model_lists_the_known(run: Dml) -> None:
    code, _, err = run("predict", "--model", "m@champion", "--slides", "s.svs", "--out", "out.csv")
    assert code == 2
    assert "no registered model 'm'" in err


def test_promote_and_rollback_without_a_model(run: Dml) -> None:
    assert run("promote", "nothing")[0] == 2
    assert run("rollback", "nothing")[0] == 2


def test_results_shows_models_beside_the_oracle(run: Dml) -> None:
    folder = Path("reports/demo/survival")
    folder.mkdir(parents=True)
    entry = {"value": 0.71, "ci_low": 0.6, "ci_high": 0.8, "folds": [0.7, 0.72]}
    (folder / "metrics.json").write_text(json.dumps({"teacher": {"c_index": entry}, "student": {"c_index": entry}}))
    raw = Path("data/raw/demo")
    raw.mkdir(parents=True)
    (raw / "oracle.json").write_text(json.dumps({"c_index": 0.8}))
    code, out, _ = run("results")
    assert code == 0
    wanted = ("oracle", "0.800", "teacher", "Harrell C", "0.710 (0.600 to 0.800)", "dml registry ls")
    for text in (*wanted, "reports/demo/survival/report.html"):
        assert text in out
    rows = json.loads(run("results", "--json")[1])
    assert [row["model"] for row in rows] == ["oracle", "teacher", "student"]


def test_results_without_a_report_says_what_to_run(run: Dml) -> None:
    code, _, err = run("results")
    assert code == 1
    assert "dvc repro" in err


def test_doctor_opens_slides_and_names_one_that_cannot_be_read(run: Dml) -> None:
    painted.write_slide(Path("good.tif"), painted.tissue_pixels(256, 256))
    Path("broken.tif").write_bytes(b"II*\0 and then nothing")
    table = pa.table({"slide_id": ["a", "b"], "patient_id": ["p", "q"], "path": ["good.tif", "broken.tif"]})
    write_parquet(Path("data/demo/slides.parquet"), table)
    (found,) = [row for row in json.loads(run("doctor", "--json")[1]) if row["check"] == "slides"]
    assert found["status"] == "warn"
    assert "1 of 2 cannot be read: broken.tif" in found["result"]


def test_doctor_reads_an_image_at_the_resolution_of_the_table(run: Dml) -> None:
    painted.write_image(Path("photo.jpg"), painted.tissue_pixels(256, 256))
    table = {"slide_id": ["a"], "patient_id": ["p"], "path": ["photo.jpg"], "mpp": [0.69], "upsample": [True]}
    write_parquet(Path("data/demo/slides.parquet"), pa.table(table))
    (slides,) = [row for row in json.loads(run("doctor", "--json")[1]) if row["check"] == "slides"]
    assert slides["status"] == "ok"
    assert "1 of 1 slides opened; tiles may be finer than an image (slides.upsample)" in slides["result"]


def test_ui_serves_only_this_machine_with_the_right_store(run: Dml, tmp_path: Path) -> None:
    code, _, err = run("ui", "--dry-run", "--port", "5055")
    assert code == 0
    assert "--host 127.0.0.1 --port 5055" in err
    assert f"sqlite:///{tmp_path}/mlruns/mlflow.db" in err
    assert commands(5055)["MLflow"].address.startswith("http://127.0.0.1:5055/#/experiments?")


def test_ending_the_interface_ends_its_servers() -> None:
    server = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    command = f"Command((sys.executable, '-c', {server!r}), 1)"
    code = f"import sys; from dml.cli.ui_servers import Command, serve; serve({{'a': {command}}})"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT) as started:
        assert started.stdout is not None
        process = int(started.stdout.readline())
        started.terminate()
        assert started.wait(timeout=20) == 0
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


@pytest.mark.parametrize(("width", "header"), [(80, False), (200, True)])
def test_a_table_too_wide_for_the_terminal_is_shown_field_by_field(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], width: int, header: bool
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    rows = [{"file": "f" * 40, "digest": "d" * 40, "mpp": 0.5, "tiles": None}]
    output.show(rows, as_json=False, title="a [title]")
    lines = capsys.readouterr().out.splitlines()
    assert "a [title]" in lines[0]
    assert ("file" in lines[1] and "digest" in lines[1]) == header
    assert all(text in "".join(lines) for text in ("f" * 40, "d" * 40, "0.5"))


def test_features_verify_names_the_damaged_file(run: Dml) -> None:
    place = Path("data/demo/features/tiny/0.5/s1.parquet")
    place.parent.mkdir(parents=True)
    place.write_text("not Parquet")
    code, out, err = run("features", "verify", "--json")
    assert code == 3
    assert json.loads(out)[0]["file"] == str(place)
    assert "1 of 1 files are wrong" in err
