"""Features of another encoder or width, with NaN, empty, handed in twice or of nobody: found, with slide and remedy."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from dml.checks.run import check_features
from dml.cohorts.patients import write_patients
from dml.config.params import Params
from dml.core.errors import CheckFailed
from dml.core.files import read_json, read_parquet, write_parquet
from dml.data.feature_store import bag_path, read_features, write_bag

PARAMS = Params.model_validate(
    {"cohort": "x", "tasks": ["survival"], "folds": [0, 1], "embed": {"encoder": "e", "source": "import"}}
)


def meta(slide: str, encoder: str = "e") -> dict[str, object]:
    return {"encoder": encoder, "mpp": 0.5, "tile_um": 128.0, "slide_id": slide}


@pytest.fixture
def data(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Stores of ten patients with one slide each, and a slide that failed."""
    folder = tmp_path / "data"
    ids = [f"P{i}" for i in range(10)]
    patients = pd.DataFrame({"patient_id": ids, "site": "H", "event": True, "survival_days": 1.0})
    write_patients(folder / "patients.parquet", patients, {}, "x")
    rows = [(f"S{i}", f"P{i}", 0.5, 7, "ok", None) for i in range(10)] + [("S10", "P1", 0.5, 0, "failed", "no tissue")]
    for slide, *_ in rows[:-1]:
        tokens = rng.normal(size=(7, 4)).astype(np.float16)
        write_bag(bag_path(folder / "features", "e", 0.5, slide), tokens, None, meta(slide))
    write_manifest(folder, rows)
    return folder


def write_manifest(folder: Path, rows: list[tuple[object, ...]]) -> None:
    frame = pd.DataFrame(rows, columns=["slide_id", "patient_id", "mpp", "tiles", "status", "reason"])
    write_parquet(folder / "features/manifest.parquet", pa.Table.from_pandas(frame, preserve_index=False))


def rewrite(data: Path, slide: str, tokens: np.ndarray, encoder: str = "e") -> None:
    """Write a bag as the store itself would refuse to."""
    half = np.asarray(tokens, np.float16)
    vector = pa.array([row.tobytes() for row in half], pa.binary(2 * half.shape[1]))
    path = bag_path(data / "features", "e", 0.5, slide)
    write_parquet(path, pa.table({"vector": vector}), {**meta(slide, encoder), "width": half.shape[1]})


def failing(data: Path, message: str) -> str:
    """Check, and return the message; no bag is touched by it."""
    before = {path: path.read_bytes() for path in sorted((data / "features").rglob("*.parquet"))}
    with pytest.raises(CheckFailed, match=message) as error:
        check_features(data, PARAMS, data.parent / "out")
    assert not read_json(data.parent / "out/features.json")["success"]
    assert {path: path.read_bytes() for path in sorted((data / "features").rglob("*.parquet"))} == before
    return str(error.value)


def test_good_features_pass_and_failed_slides_are_counted(data: Path) -> None:
    check_features(data, PARAMS, data.parent / "out")
    report = read_json(data.parent / "out/features.json")
    assert report["success"]
    assert report["counts"]["slides that failed"] == 1
    assert report["counts"]["tokens"] == {"0.5": 70}
    assert (data.parent / "out/features/docs/index.html").exists()


def test_another_encoder(data: Path, rng: np.random.Generator) -> None:
    rewrite(data, "S3", rng.normal(size=(5, 4)), encoder="resnet")
    failing(data, r"all features are of encoder e: failed for slide_id S3, patient_id P3, mpp 0\.5, .*encoder resnet")


def test_another_width(data: Path, rng: np.random.Generator) -> None:
    rewrite(data, "S4", rng.normal(size=(5, 6)))
    failing(data, r"all vectors are 4 wide: failed for slide_id S4")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_inf(data: Path, value: float) -> None:
    tokens = np.ones((5, 4))
    tokens[2, 1] = value
    rewrite(data, "S5", tokens)
    failing(data, r"no NaN or Inf in features: failed for slide_id S5.*Delete the files and extract or import")


def test_empty_truncated_and_missing_bags(data: Path) -> None:
    rewrite(data, "S6", np.ones((0, 4)))
    bag_path(data / "features", "e", 0.5, "S7").write_bytes(b"PAR1")
    bag_path(data / "features", "e", 0.5, "S8").unlink()
    text = failing(
        data, r"every bag can be read: failed for slide_id S6.*empty bag.*S7.*not a readable.*S8.*does not exist"
    )
    assert "no NaN" not in text, "what cannot be read is reported once"


def test_the_same_slide_for_two_patients(data: Path) -> None:
    first, second = (bag_path(data / "features", "e", 0.5, slide) for slide in ("S1", "S2"))
    second.write_bytes(first.read_bytes())
    text = failing(
        data, r"no two patients have the same features: failed for slide_id S1, patient_id P1, mpp 0\.5, twin S2"
    )
    assert "slide_id S2, patient_id P2, mpp 0.5, twin S1" in text


def test_nearly_the_same_slide_for_two_patients_warns(data: Path, caplog) -> None:
    tokens = read_features(bag_path(data / "features", "e", 0.5, "S1"))[0].numpy()
    rewrite(data, "S2", tokens[::-1] + np.float16(1e-3))
    check_features(data, PARAMS, data.parent / "out")
    report = read_json(data.parent / "out/features.json")
    (rule,) = [c for c in report["checks"] if c["name"] == "unlike_others"]
    assert (rule["success"], rule["severity"], rule["failing"]) == (False, "warning", 2)
    assert [row["twin"] for row in rule["rows"]] == ["S2", "S1"]
    assert "nearly the same features" in caplog.text


def test_a_site_whose_slides_look_different_warns(data: Path, rng: np.random.Generator) -> None:
    patients = pd.DataFrame({"patient_id": [f"P{i}" for i in range(10)], "site": ["A", "B"] * 5})
    write_patients(data / "patients.parquet", patients.assign(event=True, survival_days=1.0), {}, "x")
    for i in range(0, 10, 2):
        rewrite(data, f"S{i}", rng.normal(size=(7, 4)) + 3)
    params = PARAMS.model_copy(update={"checks": PARAMS.checks.model_copy(update={"min_site_patients": 5})})
    check_features(data, params, data.parent / "out")
    (rule,) = [c for c in read_json(data.parent / "out/features.json")["checks"] if c["table"] == "feature_sites"]
    assert rule["rows"][0]["site"] == "A"
    assert rule["rows"][0]["dimensions"] == 1.0
    assert rule["rows"][0]["auc"] == 1.0


def test_a_cohort_of_several_whose_slides_look_different_warns(data: Path, rng: np.random.Generator) -> None:
    patients = pd.DataFrame({"patient_id": [f"P{i}" for i in range(10)], "site": "H", "cohort": ["a", "b"] * 5})
    write_patients(data / "patients.parquet", patients.assign(event=True, survival_days=1.0), {}, "x")
    for i in range(1, 10, 2):
        rewrite(data, f"S{i}", rng.normal(size=(7, 4)) + 3)
    params = PARAMS.model_copy(update={"checks": PARAMS.checks.model_copy(update={"min_site_patients": 5})})
    check_features(data, params, data.parent / "out")
    (rule,) = [c for c in read_json(data.parent / "out/features.json")["checks"] if c["table"] == "feature_sites"]
    assert [(row["site"], row["patients"]) for row in rule["rows"]] == [("cohort a", 5), ("cohort b", 5)]


def test_a_slide_of_nobody_and_too_many_failures(data: Path) -> None:
    rows = [tuple(row) for row in read_parquet(data / "features/manifest.parquet")[0].to_pandas().to_numpy()]
    rows[0] = ("S0", "X9", *rows[0][2:])
    rows += [(f"S{i}", "P1", 0.5, 0, "failed", "no tissue") for i in range(11, 14)]
    write_manifest(data, rows)
    text = failing(data, r"every slide belongs to a known patient: failed for slide_id S0, patient_id X9")
    assert "few slides failed: failed for failed 4, share 0.2857, allowed 0.1, reasons 4 x no tissue" in text


def test_no_slide_at_all_worked(data: Path) -> None:
    write_manifest(data, [("S0", "P0", 0.5, 0, "failed", "not a slide")])
    failing(data, r"few slides failed: failed for failed 1, share 1\.0")
