"""Encode one slide file in memory, as prediction does; `encode_cohort` gives the same bits."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import torch

from dml.config.params import Embed, Tiles
from dml.core.device import resolve_device
from dml.core.types import Bag, Mpp, MultiScaleBags, TileGrid
from dml.encoders.card import EncoderCard, TileEncoder
from dml.encoders.registry import get
from dml.features.encode_tiles import EncodingJob, EncodingResult, encode_tiles
from dml.features.load_encoder import load_encoder
from dml.slides.tile_slide import SlideOptions, tile_file

Selection = Callable[[Bag, TileGrid], TileGrid]
"""From the tokens of a resolution and the grid of the next finer one to the tiles of it that are read."""


def encode_slide(
    path: Path,
    encoder: str,
    tiles: Tiles,
    embed: Embed | None = None,
    slide: SlideOptions | None = None,
    select: Selection | None = None,
) -> MultiScaleBags:
    """Cut and encode one slide; nothing is written.

    Parameters
    ----------
    path : Path
        Any format that `open_slide` reads.
    encoder : str
        Name of the encoder.
    tiles : config.Tiles
        As in the cohort that the model was trained on.
    embed : config.Embed, optional
        Workers, batch size, precision, device, runtime, stain normalisation; its encoder and source are ignored.
    slide : SlideOptions, optional
        Resolution and fields.
    select : callable, optional
        Which tiles of each finer resolution are read; all by default.

    Returns
    -------
    mapping of mpp to Bag
        The same numbers, bit by bit, as `encode_cohort` stores for this slide; with `select`, of the tiles that it
        selects, the coarsest resolution first.

    Raises
    ------
    InputError
        If the slide cannot be read, has no tissue, or the encoder is import-only.
    """
    options = embed or Embed()
    loaded = load_slide_encoder(encoder, options)
    grids = tile_file(path, tiles, slide).grids
    stain_grid = grids[min(grids)] if options.stain_normalisation else None

    def encode(*chosen: TileGrid) -> dict[Mpp, Bag]:
        jobs = [EncodingJob(path.stem, path, grid, stain_grid) for grid in chosen]
        results = encode_tiles(jobs, loaded, options.workers, options.batch_size)
        return {result.job.grid.mpp: _bag(result, encoder) for result in results}

    if select is None:
        return encode(*grids.values())
    bags: dict[Mpp, Bag] = {}
    coarser: Bag | None = None
    for mpp in sorted(grids, reverse=True):
        grid = grids[mpp] if coarser is None else select(coarser, grids[mpp])
        bags |= encode(grid)
        coarser = bags[mpp]
    return dict(sorted(bags.items()))


def load_slide_encoder(encoder: str, embed: Embed) -> TileEncoder:
    """Load an encoder for `encode_slide`, which keeps the last one loaded."""
    device = str(resolve_device(embed.device, "embed.device"))
    return _load_encoder(get(encoder), device, embed.precision, embed.runtime)


@lru_cache(maxsize=1)
def _load_encoder(card: EncoderCard, device: str, precision: str, runtime: str) -> TileEncoder:
    """Load the encoder once for all slides of a batch."""
    return load_encoder(card, device, precision, runtime)


def _bag(result: EncodingResult, encoder: str) -> Bag:
    if result.tokens is None:
        raise result.error or RuntimeError("a result without tokens has an error")
    grid = result.job.grid
    tokens = torch.from_numpy(result.tokens)
    coords = torch.from_numpy(grid.coords_um).float()
    return Bag(tokens, coords, torch.zeros(len(tokens), dtype=torch.long), grid.mpp, grid.tile_um, encoder)
