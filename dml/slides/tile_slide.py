"""Cut one open slide into tiles: tissue mask, nested grids, facts about the slide, overview picture."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from dml.config.params import Tiles
from dml.core.errors import InputError, refuse_unreadable
from dml.core.limited_process import call_limited
from dml.core.types import Mpp, TileGrid, magnification
from dml.slides.fields import Field, check_fields, parse_fields
from dml.slides.grid import largest_share, tile_grids
from dml.slides.nuclei import LARGEST_UM, PLAUSIBLE_UM, measure_nuclei
from dml.slides.reader import Slide, open_slide
from dml.slides.thumbnails import save_overview
from dml.slides.tissue import BROWN, Tissue, find_tissue, mask_mpp


@dataclass(frozen=True, slots=True)
class TiledSlide:
    """The grids of one slide by resolution, and its row of slides.parquet."""

    grids: dict[Mpp, TileGrid]
    facts: dict[str, Any]


@dataclass(frozen=True, slots=True)
class SlideOptions:
    """What the slide list and the cohort say of a slide file.

    Attributes
    ----------
    mpp, mpp_from, upsample
        As `open_slide` takes them.
    fields : tuple of Field
        Boxes inside of which tiles are cut; none: the whole slide.
    """

    mpp: float | None = None
    mpp_from: str | None = None
    upsample: bool = False
    fields: tuple[Field, ...] = ()

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> "SlideOptions":
        """Read a row of a slide table: mpp, and mpp_from, upsample and fields_px where it has them."""
        stated = {name: row[name] for name in ("mpp", "mpp_from") if name in row and row[name] == row[name]}  # not NaN
        return cls(**stated, upsample=row.get("upsample") in (True,), fields=parse_fields(row.get("fields_px")))

    @property
    def stated(self) -> list[Any]:
        """What is stated of the slide, as a part of the key of its tiles."""
        resolution = [each for each in (self.mpp, self.mpp_from) if each is not None]
        return [*resolution, *(["upsample"] if self.upsample else []), *map(list, self.fields)]


def tile_file(
    path: Path, tiles: Tiles, options: SlideOptions | None = None, overview: Path | None = None
) -> TiledSlide:
    """Open a slide, find its tissue and lay the nested grids, in a process whose memory and time are limited.

    Parameters
    ----------
    path : Path
        Any format that `open_slide` reads.
    options : SlideOptions, optional
        Resolution and fields.
    tiles, overview
        As `tile_slide` takes them.

    Raises
    ------
    InputError
        As `open_slide` and `tile_slide`; if a library crashes over the file, or exceeds the limits.
    """
    return call_limited(path, _open_and_tile, path, tiles, options or SlideOptions(), overview)


def _open_and_tile(path: Path, tiles: Tiles, options: SlideOptions, overview: Path | None) -> TiledSlide:
    source = options.mpp, options.mpp_from, options.upsample
    is_sure = options.mpp_from is not None
    with refuse_unreadable(path):
        if not options.fields:
            with open_slide(path, *source) as slide:
                return tile_slide(slide, tiles, overview, is_sure)
        facts = path.stat()
        try:
            slide, tissue = _open_with_tissue(path, (facts.st_ino, facts.st_size, facts.st_mtime_ns), tiles, source)
            return tile_slide(slide, tiles, overview, is_sure, options.fields, tissue)
        except BaseException:
            _open_with_tissue.cache_clear()
            raise


@lru_cache(maxsize=1)
def _open_with_tissue(
    path: Path, version: tuple[int, ...], tiles: Tiles, source: tuple[float | None, str | None, bool]
) -> tuple[Slide, Tissue]:
    """Open a slide and find its tissue, once for all the fields that are slides of the same file."""
    slide = open_slide(path, *source)
    return slide, _look_for_tissue(slide, tiles)


def tile_slide(
    slide: Slide, tiles: Tiles, overview: Path | None = None, is_sure: bool = False, fields: Sequence[Field] = (),
    tissue: Tissue | None = None,
) -> TiledSlide:  # fmt: skip
    """Find the tissue of an open slide and lay the nested grids.

    Parameters
    ----------
    slide : Slide
        An open slide.
    tiles : config.Tiles
        Resolutions, tile side, least share of tissue.
    overview : Path, optional
        Where to write a JPEG of the slide with its tissue and tiles.
    is_sure : bool
        Whether a person has confirmed which resolution is right, so that the size of nuclei does not count.
    fields : sequence of Field
        Boxes inside of which tiles are cut; none: the whole slide.
    tissue : Tissue, optional
        That of the whole slide, where it is known.

    Raises
    ------
    InputError
        If the slide is truncated, too coarse, has no tissue, or nuclei that contradict its resolution; if a field
        reaches beyond it.
    """
    check_fields(slide.path, fields, slide.dimensions)
    tissue = tissue or _look_for_tissue(slide, tiles)
    grids = dict(tile_grids(slide, tissue.mask, tiles, fields))
    if not all(len(grid.coords_px) for grid in grids.values()):
        raise _too_little(slide, tissue, tiles, fields)
    doubts = () if is_sure or tissue.brown > BROWN else _check_nuclei(slide, grids[Mpp(min(grids))])
    if overview is not None:
        save_overview(slide, tissue.mask, grids, overview, fields)
    width, height = slide.dimensions
    facts = {
        "mpp": float(slide.mpp),
        "mpp_source": slide.resolution.source,
        "magnification": round(magnification(slide.mpp), 4),
        "vendor": slide.vendor,
        "width": width,
        "height": height,
        "tissue": round(float(tissue.mask.mean()), 6),
        "left_out": round(tissue.left_out, 6),
        "tiles": sum(len(grid.coords_px) for grid in grids.values()),
        "notes": "; ".join((*slide.notes, *_note_interpolation(slide, tiles), *tissue.notes, *doubts)),
    }
    return TiledSlide(grids, facts)


def _look_for_tissue(slide: Slide, tiles: Tiles) -> Tissue:
    slide.probe(min(tiles.mpps))
    tissue = find_tissue(slide.thumbnail(mask_mpp(slide)), tiles.remove_ink)
    _check_tissue(slide, tissue)
    return tissue


def _note_interpolation(slide: Slide, tiles: Tiles) -> tuple[str, ...]:
    finer = ", ".join(f"{mpp:g}" for mpp in sorted(tiles.mpps) if slide.is_coarser(mpp))
    if not finer:
        return ()
    return (f"tiles at {finer} microns per pixel are interpolated: the image has {slide.mpp:g} (slides.upsample)",)


def _check_nuclei(slide: Slide, grid: TileGrid) -> tuple[str, ...]:
    """Compare the size of nuclei with what tissue has; return what a person should look at."""
    diameter = measure_nuclei(slide, grid)
    if diameter is None or PLAUSIBLE_UM[0] <= diameter <= PLAUSIBLE_UM[1]:
        return ()
    what = f"at {slide.mpp:g} microns per pixel ({slide.resolution.source}) nuclei are {diameter:.1f} microns wide"
    if diameter < LARGEST_UM:
        return (f"{what}: is the resolution right?",)
    better = slide.mpp * 7 / diameter
    problem = f"{what}, at about {better:.2g} they would be 7: the resolution is wrong, or these are no cells"
    remedy = "Give the right mpp in the slide list; if it is right, say so with `mpp_from` under `slides` of the cohort"
    raise InputError(slide.path, problem, remedy)


def _check_tissue(slide: Slide, tissue: Tissue) -> None:
    if tissue.mask.any() and not tissue.special_stain:
        return
    remedy = "Look at it, or leave it out"
    if tissue.pens:
        problem = f"the stain was taken for ink: {tissue.pens}"
        remedy = f"For a special stain (trichrome, alcian blue) set tiles.remove_ink: false. {remedy}"
    else:
        problem = "no tissue found (empty glass, or not a bright-field slide)"
    raise InputError(slide.path, problem, remedy)


def _too_little(slide: Slide, tissue: Tissue, tiles: Tiles, fields: Sequence[Field]) -> InputError:
    """Say which setting would give the slide a tile."""
    largest = largest_share(slide, tissue.mask, tiles, fields)
    if fields and largest == 0:
        side_px = math.ceil(min(tiles.mpps) * tiles.tile_px / slide.mpp)
        problem = f"no tile with tissue lies inside its fields (a tile is {side_px} x {side_px} pixels of the image)"
        return InputError(slide.path, problem, "Enlarge or move the fields, or leave the slide out")
    if largest < tiles.min_tissue:
        side = min(tiles.mpps) * tiles.tile_px
        problem = f"no tile of {side:g} microns is {tiles.min_tissue:.0%} tissue, the fullest {largest:.0%}"
        return InputError(
            slide.path,
            problem,
            f"Set tiles.min_tissue to {math.floor(100 * largest) / 100:g} or less, or leave the slide out",
        )
    problem = f"no tile of {max(tiles.mpps) * tiles.tile_px:g} microns is {tiles.min_tissue_coarse:.0%} tissue"
    return InputError(slide.path, problem, "Lower tiles.min_tissue_coarse or leave it empty")
