"""Features of two cohorts side by side: linked, not made again, and only if they are of one kind."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dml.cohorts.description import CohortDescription
from dml.config.params import Tiles, parse
from dml.core.errors import InputError
from dml.data.feature_store import bag_path, read_bags, write_bag
from dml.features.manifest import manifest_row, read_manifest, write_manifest
from dml.features.merge_features import merge_features

BOTH: CohortDescription = parse(CohortDescription, {"name": "both", "combines": ["a", "b"]}, "both.yaml")
TILES = Tiles(mpps=(0.5, 1.0))


@pytest.fixture(autouse=True)
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write_part(name: str, mpps: tuple[float, ...] = (0.5, 1.0), width: int = 4, **changes: Any) -> Path:
    folder, rng = Path("data/raw/both") / name / "features", np.random.default_rng(len(name) + width)
    rows = []
    for slide in (f"{name}1", f"{name}2"):
        for mpp in mpps:
            meta = {"encoder": "e", "mpp": mpp, "tile_um": 256 * mpp, "slide_id": slide, "weights": "w", **changes}
            write_bag(bag_path(folder, "e", mpp, slide), rng.normal(size=(3, width)), None, meta)
            rows.append(manifest_row(slide, f"P{slide}", mpp, 3, None, "f"))
    rows += [manifest_row(f"{name}3", "P", mpp, reason="no tissue") for mpp in mpps]
    write_manifest(folder / "manifest.parquet", rows)
    return folder


def combine(tiles: Tiles = TILES, encoder: str = "e") -> Path:
    out = Path("data/both/features")
    merge_features(BOTH, out, tiles, encoder)
    return out


def test_features_are_linked_with_their_manifest() -> None:
    folder = write_part("a")
    write_part("b")
    out = combine()
    assert bag_path(out, "e", 0.5, "a1").samefile(bag_path(folder, "e", 0.5, "a1"))
    manifest = read_manifest(out / "manifest.parquet")
    assert list(manifest["slide_id"].unique()) == ["a1", "a2", "a3", "b1", "b2", "b3"]
    assert manifest.loc[manifest["status"] == "failed", "reason"].tolist() == ["no tissue"] * 4
    pyramid = read_bags(out / "e", ["a1", "b2"], [0.5, 1.0])
    assert len(pyramid[0.5]) == 6


def test_only_the_resolutions_that_are_wanted() -> None:
    write_part("a")
    write_part("b", mpps=(0.5,))
    out = combine(Tiles(mpps=(0.5,)))
    assert set(read_manifest(out / "manifest.parquet")["mpp"]) == {0.5}
    with pytest.raises(
        InputError, match=r"b/features: no features e/1 \(encoder/microns per pixel\), but e/0\.5\. Make"
    ):
        combine()
    with pytest.raises(InputError, match=r"a/features: no features uni/0\.5, uni/1 .*, but e/0\.5, e/1\."):
        combine(encoder="uni")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tile_um": 100.0}, r"b1\.parquet: features are of another kind: tile_um 100\.0, but 128\.0 in a"),
        ({"width": 5}, r"width 5, but 4 in a"),
        ({"stain_normalisation": "macenko"}, r"stain_normalisation macenko, but None in a"),
        ({"weights": "v"}, r"weights v, but w in a\. Make those of both parts alike"),
    ],
)
def test_features_of_another_kind_are_refused(changes: dict[str, Any], message: str) -> None:
    write_part("a")
    write_part("b", **changes)
    with pytest.raises(InputError, match=message):
        combine()


def test_weights_of_imported_features_are_not_known() -> None:
    write_part("a", weights="imported")
    write_part("b")
    combine()
