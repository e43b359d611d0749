"""Microns per pixel of a slide: stated by the file, by its objective, or by the slide list; never guessed.

The one rule for tiling and prediction: the file (in an OME file its XML, not its TIFF tags), else the objective, else
the slide list. Sources that contradict each other by a factor of two or more are an error, unless the cohort says which
one is right (`mpp_from`).
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from dml.core.errors import InputError
from dml.core.types import Mpp

MppSource = Literal["file", "objective", "slide_list"]
PLAUSIBLE = (0.07, 10.0)
"""Microns per pixel of optical slides. 72 dpi, a common default of image programs, would be 353."""
CONTRADICTION = 2.0
"""Factor between two sources from which one of them must be wrong."""
SQUARE = 0.03
"""Pixels may be wider than high, or the reverse, by this share."""
_AGREE = 0.05  # sources that differ by less say the same
_LENS_ONLY = {"mirax"}  # vendors whose objective is that of the lens, without the camera's adapter
_NAMES = {"file": "the file", "objective": "the objective", "slide_list": "the slide list"}


@dataclass(frozen=True, slots=True)
class Resolution:
    """Microns per level-0 pixel, its source, and what is odd about it."""

    mpp: Mpp
    source: str
    notes: tuple[str, ...] = ()


def derive(
    properties: Mapping[str, str], stated: float | None, path: Path | str, mpp_from: str | None = None
) -> Resolution:
    """Derive the resolution of a slide.

    Parameters
    ----------
    properties : mapping
        ``openslide.mpp-x`` and ``-y``, ``openslide.objective-power``, ``openslide.vendor``; of an OME file also
        ``tiff.mpp-x`` and ``-y``, which its TIFF tags say.
    stated : float or None
        Microns per pixel in the slide list; None or NaN if it says nothing.
    path : Path
        The slide, for messages.
    mpp_from : file, objective or slide_list, optional
        The source to trust where several are there.

    Raises
    ------
    InputError
        If no source says it, two contradict each other, the value is implausible, or the pixels are not square.
    """
    notes: list[str] = []
    readings = _readings(properties, stated, path, notes)
    chosen = _choose(readings, path, mpp_from, notes)
    for source in [other for other in readings if other != chosen]:
        _compare(readings, chosen, source, path, bool(mpp_from), properties, notes)
    mpp = readings[chosen]
    if not PLAUSIBLE[0] <= mpp <= PLAUSIBLE[1]:
        problem = f"{_NAMES[chosen]} says {mpp:g} microns per pixel, which no slide scanner gives"
        remedy = "Add the right value to the column mpp of the slide list, and `mpp_from: slide_list` under `slides`"
        raise InputError(path, problem, f"{remedy} of the cohort")
    name = "OME-XML" if chosen == "file" and "ome.xml" in properties else chosen.replace("_", " ")
    return Resolution(Mpp(mpp), name, tuple(notes))


def _readings(
    properties: Mapping[str, str], stated: float | None, path: Path | str, notes: list[str]
) -> dict[MppSource, float]:
    """Collect what each source says, in the order of their rank."""
    readings: dict[MppSource, float] = {}
    mpp = _of_pixels(properties, "openslide", path, notes)
    tags = _of_pixels(properties, "tiff", path, notes)
    if mpp is not None and tags is not None and abs(mpp / tags - 1) > _AGREE:
        notes.append(f"the TIFF tags say {tags:g} microns per pixel, the OME-XML {mpp:g}: the OME-XML is used")
    if (mpp or tags) is not None:
        readings["file"] = mpp or tags or 0.0
    power = number(properties.get("openslide.objective-power"))
    if power is not None:
        readings["objective"] = 10.0 / power
    if stated is not None and not math.isnan(stated):
        readings["slide_list"] = stated
    return readings


def _choose(readings: Mapping[MppSource, float], path: Path | str, mpp_from: str | None, notes: list[str]) -> MppSource:
    if mpp_from is not None:
        source = next((name for name in get_args(MppSource) if name == mpp_from), None)
        if source is None or source not in readings:
            problem = f"mpp_from is {mpp_from}, and that does not say it"
            raise InputError(path, problem, f"It is stated by: {', '.join(readings) or 'nothing'}")
        return source  # type: ignore[no-any-return]
    if readings:
        return next(iter(readings))
    because = f" ({'; '.join(dict.fromkeys(notes))})" if notes else ""
    problem = (
        f"microns per pixel unknown: neither mpp nor objective power in the file, no mpp in the slide list{because}"
    )
    raise InputError(path, problem, "Add the value to the column mpp of the slide list")


def _compare(
    readings: Mapping[MppSource, float], chosen: MppSource, other: MppSource, path: Path | str, decided: bool,
    properties: Mapping[str, str], notes: list[str],
) -> None:  # fmt: skip
    """Note that two sources differ, or refuse the slide if they differ by a factor of two or more."""
    mpp, second = readings[chosen], readings[other]
    factor = max(mpp / second, second / mpp) if second > 0 < mpp else math.inf
    lens = "objective" in (chosen, other) and properties.get("openslide.vendor") in _LENS_ONLY
    if factor > CONTRADICTION * 0.99 and not decided and not lens:
        problem = f"{_say(chosen, readings)}, {_say(other, readings)}"
        remedy = (
            f"Set `mpp_from` ({', '.join(get_args(MppSource))}) under `slides` of the cohort to the one that is right"
        )
        raise InputError(path, problem, remedy)
    if factor > 1 + _AGREE and (other != "objective" or factor > CONTRADICTION * 0.99):
        notes.append(f"{_say(other, readings)}, {_say(chosen, readings)}: {_NAMES[chosen]} is used")


def _say(source: MppSource, readings: Mapping[MppSource, float]) -> str:
    mpp = readings[source]
    lens = f" ({10 / mpp:g}x)" if source == "objective" else ""
    return f"{_NAMES[source]}{lens} says {mpp:g} microns per pixel"


def _of_pixels(properties: Mapping[str, str], prefix: str, path: Path | str, notes: list[str]) -> float | None:
    """Return the mean of both axes; a default of image programs is no resolution."""
    x, y = (number(properties.get(f"{prefix}.mpp-{axis}")) for axis in "xy")
    if x is None or y is None:
        x = y = x if y is None else y
    if x is None or y is None:
        return None
    if min(x, y) > PLAUSIBLE[1]:
        notes.append(f"the file says {x:g} microns per pixel, a default of image programs: ignored")
        return None
    if abs(x / y - 1) > SQUARE:
        problem = f"pixels are not square ({x:g} x {y:g} microns)"
        raise InputError(path, problem, "Export the slide with square pixels, or correct its resolution")
    if abs(x / y - 1) > 0.01:
        notes.append(f"pixels are not square ({x:g} x {y:g} microns): their mean is used")
    # resolutions stored as rationals come back as 0.49999999
    return float(f"{(x + y) / 2:.7g}")


def number(text: str | None) -> float | None:
    """Read a positive number, with a decimal point or comma, an x or microns behind it; None for anything else."""
    plain = re.sub(r"\s*(?:x|um|[\u00b5\u03bc]m|microns?)\s*$", "", (text or "").strip(), flags=re.IGNORECASE)
    try:
        value = float(plain.replace(",", "."))
    except ValueError:
        return None
    return value if math.isfinite(value) and value > 0 else None
