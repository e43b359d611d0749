"""``dml spatial`` and the stage: on the sections of the training, and on one that the model has never seen."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from dml.cli.app import app
from dml.cohorts.spot_store import empty_spots, read_spots, write_spots
from dml.core.errors import InputError
from pipelines import spatial as spatial_stage
from tests.dml.spatial.conftest import Painted
from tests.painted_sections import COHORT, PARAMS, TASK, write_cohort


@pytest.fixture
def workplace(painted: Painted, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The root of the painted cohort, with its models where the stages look for them."""
    monkeypatch.chdir(painted.root)
    monkeypatch.setattr("sys.argv", ["spatial", "--task", TASK])
    content = PARAMS.model_dump(mode="json")
    content["spatial_validation"] |= {"draws": 99, "resamples": 50}
    Path("params.yaml").write_text(yaml.safe_dump(content))
    yield painted.root
    Path("params.yaml").unlink()


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["spatial", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_the_stage_validates_teacher_and_student_in_one_page(painted: Painted, workplace: Path) -> None:
    assert spatial_stage.main() == 0
    out = workplace / "reports" / COHORT / TASK / "spatial"
    content = json.loads((out / "spatial.json").read_text())
    assert set(content["models"]) == {"teacher", "student"}
    assert "Not shown: teacher" in (out / "spatial.html").read_text()
    assert set(pd.read_parquet(out / "spots.parquet")["model"]) == {"teacher", "student"}


def test_the_stage_of_a_cohort_without_spots_says_so(painted: Painted, workplace: Path) -> None:
    table = read_spots(painted.store.folder)
    write_spots(painted.store.folder, empty_spots())
    try:
        assert spatial_stage.main() == 0
    finally:
        write_spots(painted.store.folder, table)
    assert json.loads((workplace / "reports" / COHORT / TASK / "spatial/spatial.json").read_text())["spatial"] is False


def test_a_section_the_model_never_saw_is_one_unit_of_all_folds(painted: Painted, workplace: Path) -> None:
    store = write_cohort(workplace, "other", ("T1",), block_um=1e6, seed=7)
    table = read_spots(store.folder)
    bare = [name for name in table.spots if name == "region" or name.startswith("proportion.")]
    write_spots(store.folder, replace(table, spots=table.spots.drop(columns=bare)))
    run("--model", painted_folder(painted), "--cohort", "other", "--draws", "99", "--out", "unseen")
    model = json.loads(Path("unseen/spatial.json").read_text())["models"]["student"]
    assert [(s["section"], s["units"], s["folds_not_trained_on_it"]) for s in model["sections"]] == [("T1", 1, 3)]
    predicted = {row["measurement"]: row for row in model["tables"]["predictions"]}
    assert predicted["signature.tumor"]["value"] > 0.3
    assert {row["measurement"] for row in model["tables"]["claims"]} == {
        "signature.tumor", "signature.stroma", "signature.immune"
    }  # fmt: skip
    page = Path("unseen/spatial.html").read_text()
    assert "All sections are of one patient" in page


def test_rows_of_the_command_are_those_of_the_file(painted: Painted, workplace: Path) -> None:
    text = run("--model", painted_folder(painted), "--cohort", COHORT, "--draws", "99", "--json", "--out", "here")
    rows = json.loads(text[text.index("[") : text.rindex("]") + 1])
    claims = json.loads(Path("here/spatial.json").read_text())["models"]["student"]["tables"]["claims"]
    assert [row["value"] for row in rows] == pytest.approx([row["value"] for row in claims])


def test_wrong_arguments_are_named(painted: Painted, workplace: Path) -> None:
    with pytest.raises(InputError, match=r"spots\.parquet"):
        run("--model", painted_folder(painted), "--cohort", "absent")
    write_spots(workplace / "data/bare", empty_spots())
    with pytest.raises(InputError, match="nothing to validate"):
        run("--model", painted_folder(painted), "--cohort", "bare")
    with pytest.raises(InputError, match="no output 'medium'"):
        run("--model", painted_folder(painted), "--cohort", COHORT, "--output", "medium", "--draws", "99")


def painted_folder(painted: Painted) -> str:
    return str(painted.models.model_folder("student"))
