"""A run ended by SIGKILL leaves no half file; the next one encodes only what is missing, to the same bytes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from dml.data.feature_store import read_features
from tests.painted import tissue_pixels, write_slide

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[3]
RUN = """
import sys, time
sys.path.insert(0, {root!r})
from pathlib import Path
import pandas as pd
from tests.painted import FAKE, fake_card
from dml.config.params import Embed, Tiles
from dml.encoders.card import EncoderCard
from dml.encoders.registry import register
from dml.features.encode_cohort import encode_cohort
from dml.features.tile_cohort import tile_cohort

def slow(tiles):
    time.sleep({pause})
    return FAKE(tiles)

card = fake_card()
register(EncoderCard(**{{f: getattr(card, f) for f in card.__slots__}} | {{"load_with": lambda *_: slow}}))
tiles = Tiles(tile_px=64, max_failed=1.0)
table = tile_cohort(pd.read_csv("slides.csv"), Path("tiles"), tiles)
encode_cohort(table, Path("tiles"), Path("features"), tiles, Embed(encoder="fake", batch_size=4))
print(sum(FAKE.batch_sizes))
"""


def start(folder: Path, pause: float) -> subprocess.Popen[str]:
    code = RUN.format(root=str(ROOT), pause=pause)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", code], cwd=folder, env=environment, stdout=subprocess.PIPE, text=True
    )


def bags(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted((folder / "features").rglob("*.parquet"))}


def test_kill(tmp_path: Path) -> None:
    folders = [tmp_path / "undisturbed", tmp_path / "killed"]
    for folder in folders:
        rows = []
        for i in range(6):
            write_slide(folder / f"{i}.tif", tissue_pixels(640, 512, seed=i), levels=2)
            rows.append({"slide_id": f"s{i}", "patient_id": f"P{i}", "path": f"{i}.tif", "mpp": None})
        pd.DataFrame(rows).to_csv(folder / "slides.csv", index=False)
    whole = start(folders[0], 0.0)
    total = int(whole.communicate()[0])

    run = start(folders[1], 0.1)
    work = folders[1] / ".work" / "features"
    while len(list(work.rglob("s*.parquet"))) < 4:
        assert run.poll() is None
        time.sleep(0.02)
    run.send_signal(signal.SIGKILL)
    run.communicate()
    finished = list(work.rglob("s*.parquet"))
    done = sum(len(read_features(path, finite=True)[0]) for path in finished)
    assert 0 < done < total
    assert not (folders[1] / "features").exists()

    again = start(folders[1], 0.0)
    assert int(again.communicate()[0]) == total - done
    assert bags(folders[1]) == bags(folders[0])
