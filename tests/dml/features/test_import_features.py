"""Features made elsewhere come into the store as the cohort description says, from folders and zips."""

import logging
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import yaml

from dml.cohorts.description import CohortDescription
from dml.cohorts.slide_table import build_slides
from dml.config.params import Embed, Tiles
from dml.core.errors import CheckFailed, InputError
from dml.data.feature_store import read_bags, read_features
from dml.features.import_features import import_features

TILES = Tiles(mpps=(0.5,), max_failed=1.0)
EMBED = Embed(source="import", encoder="e")
SOURCE = {"path": "bags", "encoder": "e", "width": 4, "mpp": 0.5, "tile_um": 128, "patient": "^(P.)"}


def tokens(i: int, mpp: float = 0.5) -> np.ndarray:
    return np.random.default_rng(i).standard_normal((3 + i, 4)).astype(np.float16) * np.float16(mpp)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with two slides of P0 and one of P1."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "data/raw/small/bags")
    return tmp_path


def write(folder: Path, mpp: float = 0.5) -> None:
    folder.mkdir(parents=True)
    for i, slide in enumerate(("P0-a", "P0-b", "P1-a")):
        with h5py.File(folder / f"{slide}.h5", "w") as file:
            file["features"] = tokens(i, mpp)
            file["coords"] = np.arange(2 * (3 + i)).reshape(-1, 2) * 512


def describe(*sources: dict[str, object]) -> CohortDescription:
    content = {
        "name": "small",
        "patients": [{"file": "p.csv", "id": "id"}],
        "features": list(sources or [SOURCE]),
    }
    Path("cohorts").mkdir(exist_ok=True)
    Path("cohorts/small.yaml").write_text(yaml.safe_dump(content))
    return CohortDescription.load("small")


def run(description: CohortDescription, tiles: Tiles = TILES, embed: Embed = EMBED) -> pd.DataFrame:
    return import_features(build_slides(description), description, Path("features"), tiles, embed)


def test_a_folder(repository: Path) -> None:
    manifest = run(describe({**SOURCE, "coords_mpp": 0.25}))
    assert manifest["slide_id"].tolist() == ["P0-a", "P0-b", "P1-a"]
    assert manifest["patient_id"].tolist() == ["P0", "P0", "P1"]
    assert manifest["tiles"].tolist() == [3, 4, 5]
    result, coords, meta = read_features(repository / "features/e/0.5/P0-b.parquet", "e", 4)
    np.testing.assert_array_equal(result.numpy(), tokens(1))
    assert coords is not None
    assert coords[1].tolist() == [2 * 512 * 0.25 + 64, 3 * 512 * 0.25 + 64]
    assert (meta["tile_um"], meta["patient_id"], meta["weights"]) == (128, "P0", "imported")
    assert len(read_bags(repository / "features/e", ["P0-a", "P0-b"], [0.5])[0.5]) == 7


def test_a_zip_gives_the_same_tokens(repository: Path) -> None:
    run(describe())
    first = {path.name: read_features(path)[0] for path in (repository / "features/e/0.5").iterdir()}
    raw = repository / "data/raw/small"
    with zipfile.ZipFile(raw / "bags.zip", "w") as archive:
        for path in sorted((raw / "bags").iterdir()):
            archive.write(path, f"h5_files/{path.name}")
    run(describe({**SOURCE, "path": "bags.zip"}))
    for path in (repository / "features/e/0.5").iterdir():
        assert read_features(path)[0].equal(first[path.name])


def test_two_resolutions(repository: Path) -> None:
    write(repository / "data/raw/small/coarse", mpp=1.0)
    description = describe(SOURCE, {**SOURCE, "path": "coarse", "mpp": 1.0, "tile_um": 256})
    run(description, Tiles(mpps=(0.5, 1.0)))
    pyramid = read_bags(repository / "features/e", ["P1-a"], [0.5, 1.0])
    np.testing.assert_array_equal(pyramid[1.0].tokens.numpy(), tokens(2, 1.0))
    assert (pyramid[0.5].tile_um, pyramid[1.0].tile_um) == (128, 256)


def test_the_wrong_encoder_or_resolution_lists_what_there_is(repository: Path) -> None:
    with pytest.raises(InputError, match=r"cohorts/small\.yaml: no features of uni at 0\.5 .*, but e at 0\.5"):
        run(describe(), embed=Embed(source="import", encoder="uni"))
    with pytest.raises(InputError, match=r"no features of e at 1 microns per pixel, but e at 0\.5"):
        run(describe(), Tiles(mpps=(0.5, 1.0)))


def test_bad_files_are_recorded_and_the_rest_goes_on(repository: Path) -> None:
    good = run(describe()).set_index("slide_id")
    bags = repository / "data/raw/small/bags"
    spoiled = tokens(0).astype(np.float32)
    spoiled[1, 1] = np.nan
    for name, array in {"P2-nan": spoiled, "P3-wide": np.ones((2, 5)), "P4-empty": np.ones((0, 4))}.items():
        with h5py.File(bags / f"{name}.h5", "w") as file:
            file["features"] = array
    (bags / "P5-zero.h5").write_bytes(b"")
    (bags / "P6-text.h5").write_text("no")
    manifest = run(describe()).set_index("slide_id")
    reasons = {
        "P2-nan": "1 of 3 tiles have NaN or infinite features",
        "P3-wide": "features of width 5, not 4",
        "P4-empty": r"features of shape (0, 4)",
        "P5-zero": "the file is empty",
        "P6-text": "not a readable .h5 file",
    }
    for slide, reason in reasons.items():
        assert manifest.loc[slide, "status"] == "failed"
        assert reason in manifest.loc[slide, "reason"]
        assert slide in manifest.loc[slide, "reason"]
    pd.testing.assert_frame_equal(manifest.loc[good.index], good)
    assert {path.stem for path in (repository / "features/e/0.5").iterdir()} == set(good.index)


def test_a_slide_without_file_fails_and_too_many_stop_the_stage(repository: Path) -> None:
    description = describe()
    slides = build_slides(description)
    more = pd.concat([slides, pd.DataFrame({"slide_id": ["P9-x"], "patient_id": ["P9"]})], ignore_index=True)
    manifest = import_features(more, description, Path("features"), TILES, EMBED)
    assert "no file of slide P9-x" in manifest.set_index("slide_id").loc["P9-x", "reason"]
    with pytest.raises(CheckFailed, match=r"1 of 4 slides failed"):
        import_features(more, description, Path("features"), Tiles(mpps=(0.5,), max_failed=0.1), EMBED)


def test_coordinates_of_unknown_unit_are_left_out(repository: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        run(describe())
    assert "coordinates left out" in caplog.text
    assert read_features(repository / "features/e/0.5/P0-a.parquet")[1] is None


def test_only_changed_files_are_read_again(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(describe())
    import dml.features.import_features as module

    read, calls = module.read_features_file, []
    monkeypatch.setattr(module, "read_features_file", lambda path, *rest: calls.append(path.stem) or read(path, *rest))
    with h5py.File(repository / "data/raw/small/bags/P0-b.h5", "w") as file:
        file["features"] = tokens(7)
    second = run(describe())
    assert calls == ["P0-b"]
    assert (first["fingerprint"] != second["fingerprint"]).tolist() == [False, True, False]


def test_nan_names_the_source_file(repository: Path) -> None:
    spoiled = tokens(1)
    spoiled[2] = np.nan
    with h5py.File(repository / "data/raw/small/bags/P0-b.h5", "w") as file:
        file["features"] = spoiled
    reason = run(describe()).set_index("slide_id").loc["P0-b", "reason"]
    assert reason.startswith("data/raw/small/bags/P0-b.h5: 1 of 4 tiles have NaN or infinite features")


def test_values_beyond_half_precision_name_the_source_file(repository: Path) -> None:
    with h5py.File(repository / "data/raw/small/bags/P0-b.h5", "w") as file:
        file["features"] = np.full((3, 4), 1e6, np.float32)
    reason = run(describe()).set_index("slide_id").loc["P0-b", "reason"]
    assert reason.startswith("data/raw/small/bags/P0-b.h5: 3 of 3 tiles")


def test_two_encoders_in_one_folder_are_told_by_name(repository: Path) -> None:
    folder = repository / "data/raw/small/bags"
    for slide in ("P2_uni", "P2_conch"):
        with h5py.File(folder / f"{slide}.h5", "w") as file:
            file["features"] = tokens(1)
    description = describe({**SOURCE, "encoder": "uni"})
    manifest = run(description, embed=EMBED.model_copy(update={"encoder": "uni"})).set_index("slide_id")
    assert manifest.loc["P2_uni", "status"] == "ok"
    assert "by its name features of conch, not of uni" in manifest.loc["P2_conch", "reason"]


def test_slide_vectors_are_warned_of(repository: Path, caplog: pytest.LogCaptureFixture) -> None:
    for slide in ("P0-a", "P0-b", "P1-a"):
        with h5py.File(repository / f"data/raw/small/bags/{slide}.h5", "w") as file:
            file["features"] = tokens(0)[:1]
    assert (run(describe())["tiles"] == 1).all()
    assert "every file has a single vector: features of slides, not of tiles?" in caplog.text


def test_a_member_that_swells_is_refused(repository: Path) -> None:
    with zipfile.ZipFile(repository / "data/raw/small/bags.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("P0-a.h5", bytes(2**27))
        archive.write(repository / "data/raw/small/bags/P1-a.h5", "P1-a.h5")
    manifest = run(describe({**SOURCE, "path": "bags.zip"})).set_index("slide_id")
    assert "bytes in the archive become 134217728" in manifest.loc["P0-a", "reason"]
    assert manifest.loc["P1-a", "status"] == "ok"


def test_locks_of_a_crashed_run_are_no_slides(repository: Path) -> None:
    (repository / "data/raw/small/bags/P0-a.h5.lock").write_text("1")
    assert set(run(describe())["slide_id"]) == {"P0-a", "P0-b", "P1-a"}
