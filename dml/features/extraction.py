"""From slides to tokens: the one place stages and the registered model call.

`tile_slides` and `embed_slides` work on a cohort, `import_features` on features made elsewhere, `embed_slide` on one
file.
"""

from functools import lru_cache
from pathlib import Path

import torch

from dml.config.params import Embed, Tiles
from dml.core.types import Bag, MultiScaleBags
from dml.features.encode_cohort import embed_slides
from dml.features.encode_tiles import Encoded, Job, encode
from dml.features.encoders.registry import EncoderCard, TileEncoder, get
from dml.features.encoders.tile_encoder import pick_device
from dml.features.import_features import import_features
from dml.features.tile_cohort import cut, tile_slides
from dml.slides.reader import open_slide

__all__ = ["embed_slide", "embed_slides", "import_features", "tile_slides"]


def embed_slide(
    path: Path, encoder: str, tiles: Tiles, embed: Embed | None = None, mpp: float | None = None
) -> MultiScaleBags:
    """Cut and embed one slide; nothing is written.

    Parameters
    ----------
    path : Path
        Any format OpenSlide reads.
    encoder : str
        Name of the encoder.
    tiles : config.Tiles
        As the cohort was cut that the model learned from.
    embed : config.Embed, optional
        Workers, batch size, precision, device; its encoder and source are not looked at.
    mpp : float, optional
        Microns per pixel, used only if the file does not say.

    Returns
    -------
    mapping of mpp to Bag
        The same numbers, bit by bit, as `embed_slides` stores for this slide.

    Raises
    ------
    InputError
        If the slide cannot be read, has no tissue, or the encoder is import-only.
    """
    options = embed or Embed()
    run = _loaded(get(encoder), pick_device(options.device), options.precision)
    with open_slide(path, mpp) as slide:
        grids = cut(slide, tiles).grids
    jobs = [Job(path.stem, path, mpp, grid) for grid in grids.values()]
    results = encode(jobs, run, options.workers, options.batch_size)
    return {result.job.grid.mpp: _bag(result, encoder) for result in results}


@lru_cache(maxsize=1)
def _loaded(card: EncoderCard, device: str, precision: str) -> TileEncoder:
    """Load the encoder once for all slides of a batch."""
    return card.load(device, precision)


def _bag(result: Encoded, encoder: str) -> Bag:
    if result.tokens is None:
        raise result.error or RuntimeError("a result without tokens has an error")
    grid = result.job.grid
    tokens = torch.from_numpy(result.tokens)
    coords = torch.from_numpy(grid.coords_um).float()
    return Bag(tokens, coords, torch.zeros(len(tokens), dtype=torch.long), grid.mpp, grid.tile_um, encoder)
