"""A real slide with the real encoder: the same bytes on every run, with any number of workers and any batch size."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dml.config.params import Embed, Tiles
from dml.data.feature_store import read_bags
from dml.features.encode_cohort import encode_cohort
from dml.features.tile_cohort import tile_cohort

pytestmark = [pytest.mark.data, pytest.mark.slow]
TILES = Tiles(mpps=(0.5, 1.0, 2.0))


@pytest.fixture
def slides(shared_data: Path) -> pd.DataFrame:
    path = shared_data / "slides" / "cmu-1-small-region.svs"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    return pd.DataFrame({"slide_id": ["cmu"], "patient_id": ["P"], "path": [str(path)], "mpp": [np.nan]})


def extracted(slides: pd.DataFrame, folder: Path, workers: int, batch: int) -> dict[str, bytes]:
    """Tile and embed in an empty folder; return every file by its place, the table of slides aside."""
    tiles = TILES.model_copy(update={"workers": workers})
    table = tile_cohort(slides, folder / "tiles", tiles, folder / "work")
    embed = Embed(workers=workers, batch_size=batch)
    encode_cohort(table, folder / "tiles", folder / "features", tiles, embed, folder / "work")
    files = [p for kind in ("tiles", "features") for p in sorted((folder / kind).rglob("*")) if p.is_file()]
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def test_features_do_not_depend_on_the_run_the_workers_or_the_batch(slides: pd.DataFrame, tmp_path: Path) -> None:
    first = extracted(slides, tmp_path / "first", 1, 32)
    assert {f"features/efficientnet_lite0/{mpp}/cmu.parquet" for mpp in ("0.5", "1", "2")} <= set(first)
    for run, workers, batch in (("again", 1, 32), ("two", 2, 32), ("five", 5, 7)):
        result = extracted(slides, tmp_path / run, workers, batch)
        assert result.keys() == first.keys()
        assert [name for name in first if result[name] != first[name]] == [], f"{workers} workers, batches of {batch}"
    pyramid = read_bags(tmp_path / "first/features/efficientnet_lite0", ["cmu"], TILES.mpps)
    for bag in pyramid.values():
        tokens = bag.tokens.float()
        assert tokens.isfinite().all()
        assert len(tokens) == 1 or tokens.std(dim=0).mean() > 0.05, "tiles are told apart"
