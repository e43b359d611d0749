"""A slide of which only the selected tiles were encoded is predicted as one of which all were."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from dml.core.types import Bag, Case, Cohort, Microns, Mpp, TileGrid
from dml.inference.ensemble import Ensemble
from dml.inference.zoom import TileSelector
from tests.trained_models import ENCODER, WIDTH, cohort, write_folds

FINE, COARSE, SIDE = Mpp(0.5), Mpp(1.0), 256


def grid(mpp: Mpp, columns: int) -> TileGrid:
    """A square of tiles of one resolution that begins at the corner of the slide."""
    at = np.array([[x, y] for y in range(columns) for x in range(columns)])
    centres = (at + 0.5) * SIDE * float(mpp)
    return TileGrid(at * int(SIDE * mpp / FINE), centres, np.ones(len(at)), SIDE, mpp, FINE)


def bag(tiles: TileGrid, tokens: torch.Tensor) -> Bag:
    coords = torch.from_numpy(tiles.coords_um).float()
    return Bag(tokens, coords, torch.zeros(len(tokens), dtype=torch.long), tiles.mpp, Microns(tiles.tile_um), ENCODER)


def patient(fine: Bag, coarse: Bag) -> Cohort:
    return replace(cohort(), cases=(Case("a", "", {FINE: fine, COARSE: coarse}),))


def test_selected_tiles_are_enough(tmp_path: Path) -> None:
    ensemble = Ensemble.load(write_folds(tmp_path, "student", zoom=0.2))
    generator = torch.Generator().manual_seed(1)
    fine, coarse = grid(FINE, 12), grid(COARSE, 6)
    tokens = torch.randn(144, WIDTH, generator=generator).half()
    coarse_bag = bag(coarse, torch.randn(36, WIDTH, generator=generator).half())
    chosen = TileSelector(ensemble)(coarse_bag, fine)
    at = {tuple(corner): i for i, corner in enumerate(fine.coords_px.tolist())}
    index = [at[tuple(corner)] for corner in chosen.coords_px.tolist()]
    assert 4 * 8 <= len(index) < len(tokens), "two folds, each reads the children of eight of 36 coarse tiles"
    whole = ensemble.predict(patient(bag(fine, tokens), coarse_bag))
    zoomed = ensemble.predict(patient(bag(chosen, tokens[index]), coarse_bag))
    for name in ensemble.outputs:
        np.testing.assert_allclose(whole[name], zoomed[name], atol=1e-5)


def test_a_model_without_zoom_reads_everything(tmp_path: Path) -> None:
    ensemble = Ensemble.load(write_folds(tmp_path, "student"))
    fine, coarse = grid(FINE, 4), grid(COARSE, 2)
    assert len(TileSelector(ensemble)(bag(coarse, torch.zeros(4, WIDTH)), fine).coords_px) == 16
