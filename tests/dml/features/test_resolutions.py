"""Where the resolution of each slide of a cohort comes from is written down; one that nobody says is a failure."""

from pathlib import Path

import pandas as pd

from dml.config.params import Tiles
from dml.features.tile_cohort import tile_cohort
from tests.painted import tissue_pixels, write_slide


def test_where_a_resolution_comes_from_is_recorded(tmp_path: Path) -> None:
    pixels, power = tissue_pixels(640, 640), "Aperio painted|AppMag = 20"
    stated = {"file": None, "objective": None, "both": 0.7, "listed": 0.5, "nowhere": None}
    for name in stated:
        mpp, description = (0.5 if name == "file" else None), (power if name in ("objective", "both") else None)
        write_slide(tmp_path / f"{name}.tif", pixels, mpp=mpp, description=description)
    rows = [
        {"slide_id": s, "patient_id": "P", "path": str(tmp_path / f"{s}.tif"), "mpp": mpp} for s, mpp in stated.items()
    ]
    tiles = Tiles(tile_px=64, max_failed=1.0)
    table = tile_cohort(pd.DataFrame(rows), tmp_path / "tiles", tiles, tmp_path / "work").set_index("slide_id")
    assert table["mpp_source"].dropna().to_dict() == {
        "file": "file",
        "objective": "objective",
        "both": "objective",
        "listed": "slide list",
    }
    assert (table["mpp"].dropna() == 0.5).all()
    assert table["status"].to_dict() == {**dict.fromkeys(stated, "ok"), "nowhere": "failed"}
    assert "microns per pixel unknown" in table.loc["nowhere", "reason"]
