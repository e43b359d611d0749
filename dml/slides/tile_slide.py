"""Cut one open slide into tiles: tissue mask, nested grids, facts about the slide, overview picture."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dml.config.params import Tiles
from dml.core.errors import InputError
from dml.core.types import Mpp, TileGrid, magnification
from dml.slides.grid import tile_grids
from dml.slides.reader import Slide
from dml.slides.thumbnails import save_overview
from dml.slides.tissue import mask_mpp, tissue_mask


@dataclass(frozen=True, slots=True)
class TiledSlide:
    """The grids of one slide by resolution, and its row of slides.parquet."""

    grids: dict[Mpp, TileGrid]
    facts: dict[str, Any]


def tile_slide(slide: Slide, tiles: Tiles, overview: Path | None = None) -> TiledSlide:
    """Find the tissue of an open slide and lay the nested grids.

    Parameters
    ----------
    slide : Slide
        An open slide.
    tiles : config.Tiles
        Resolutions, tile side, least share of tissue.
    overview : Path, optional
        Where to write a JPEG of the slide with its tissue and tiles.

    Raises
    ------
    InputError
        If the slide is truncated, too coarse, or has no tissue.
    """
    slide.probe(min(tiles.mpps))
    mask = tissue_mask(slide.thumbnail(mask_mpp(slide)))
    grids = dict(tile_grids(slide, mask, tiles))
    if not mask.any():
        raise InputError(
            slide.path, "no tissue found (empty glass, or not a bright-field slide)", "Look at it, or leave it out"
        )
    if not all(len(grid.coords_px) for grid in grids.values()):
        found = f"no tile of {max(grids) * tiles.tile_px:g} microns is {tiles.min_tissue:.0%} tissue"
        raise InputError(slide.path, found, "Lower tiles.min_tissue, or leave the slide out")
    if overview is not None:
        save_overview(slide, mask, grids, overview)
    width, height = slide.dimensions
    facts = {
        "mpp": float(slide.mpp),
        "mpp_source": slide.resolution.source,
        "magnification": round(magnification(slide.mpp), 4),
        "vendor": slide.vendor,
        "width": width,
        "height": height,
        "tissue": round(float(mask.mean()), 6),
        "tiles": sum(len(grid.coords_px) for grid in grids.values()),
        "notes": "; ".join(slide.resolution.notes),
    }
    return TiledSlide(grids, facts)
