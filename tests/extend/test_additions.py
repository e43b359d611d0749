"""Each addition of docs/extend.md is one file and its name in params.yaml; all run through a tiny pipeline."""

import json
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from ruamel.yaml import YAML

from dml.data.feature_store import read_features
from tests.extend.additions import FILES, STAGE
from tests.pipelines.conftest import Workplace, commit, copy_of_the_repository

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("extended")]

NAMED = {"params.yaml", "dvc.yaml", "cohorts/demo.yaml"}
"""Files in which additions are named: parameters, the list of stages, a cohort's description."""


def write_pairs(place: Workplace) -> None:
    """The demo's matrix as a table of pairs, which no reader of the library knows."""
    matrix = pd.read_csv(place.folder / "data/raw/demo/expression.csv.gz").set_index("patient_id")
    pairs = matrix.rename_axis(columns="gene").stack().rename("value").rename_axis(index={"patient_id": "patient"})
    pairs.reset_index().to_csv(place.folder / "data/raw/demo/pairs.csv", index=False)


def describe_pairs(place: Workplace) -> None:
    yaml, path = YAML(), place.folder / "cohorts/demo.yaml"
    content = yaml.load(path)
    content["expression"] = {"format": "pairs", "file": "pairs.csv", "unit": "log2_tpm", "source": "generated"}
    yaml.dump(content, path)


@pytest.fixture(scope="session")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A copy with all six additions after ``dvc repro`` on 30 small patients."""
    place = copy_of_the_repository(tmp_path_factory.mktemp("extended") / "repo")
    commit(place, "before")
    place.run("dml", "cohort", "demo", "--patients", "30", "--slide-px", "1024")
    write_pairs(place)
    for name, text in FILES.items():
        (place.folder / name).write_text(text)
    with (place.folder / "dvc.yaml").open("a") as handle:
        handle.write(STAGE)
    describe_pairs(place)
    place.set("embed", encoder="colour_moments")
    place.set("baselines", deep=["max_pool"])
    place.set("teacher", loss_weights={"small_logits": 0.01})
    place.set("", tasks=["survival"], folds=[0, 1])
    place.set("optimisation", epochs=2, ensemble_size=1)
    place.set("evaluation", resamples=50)
    place.set("checks", min_patients=10, min_class_size=2)
    place.run("dvc", "repro")
    return place


def read(place: Workplace, name: str) -> dict[str, dict[str, object]]:
    return dict(json.loads(place.read(name)))


def test_nothing_else_was_touched(extended: Workplace) -> None:
    changed = extended.run("git", "status", "--porcelain", "--untracked-files=all").stdout.splitlines()
    files = {line[3:] for line in changed} - {"dvc.lock"}
    assert files == {*FILES, *NAMED}


def test_an_encoder_is_one_file(extended: Workplace) -> None:
    files = sorted((extended.folder / "data/demo/features/colour_moments").glob("*/*.parquet"))
    assert files
    assert {path.parent.name for path in files} == {"0.5", "1"}
    assert read_features(files[0])[0].shape[1] == 6


def test_a_baseline_is_one_file(extended: Workplace) -> None:
    metrics = read(extended, "reports/demo/survival/metrics.json")
    assert "max_pool" in metrics
    assert "max pooling" in (extended.folder / "reports/demo/survival/report.html").read_text()


def test_a_metric_is_one_file(extended: Workplace) -> None:
    metrics = read(extended, "reports/demo/survival/metrics.json")
    assert all("risk_spread" in of_model for of_model in metrics.values())
    assert "spread of risks" in (extended.folder / "reports/demo/survival/report.html").read_text()


def test_an_expression_format_is_one_file(extended: Workplace) -> None:
    matrix = pd.read_csv(extended.folder / "data/raw/demo/expression.csv.gz").set_index("patient_id")
    stored = pq.read_table(extended.folder / "data/demo/expression.parquet")
    assert sorted(stored["patient_id"].to_pylist()) == sorted(matrix.index)


def test_a_loss_term_is_one_file(extended: Workplace) -> None:
    history = pd.read_csv(extended.folder / "models/demo/survival/teacher/fold-0/history.csv")
    assert history["train_small_logits"].gt(0).all()


def test_a_stage_is_one_file(extended: Workplace) -> None:
    assert read(extended, "reports/demo/count.json") == {"patients": 30}


def test_the_additions_of_the_page_are_those_that_are_tested() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs/extend.md").read_text()
    assert all(str(Path(name).parent) in page for name in FILES)
