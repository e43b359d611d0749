"""How many microns a pixel of a slide is: stated by the file, by its objective, or by the slide list; never guessed."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dml.core.errors import InputError
from dml.core.types import Mpp

PLAUSIBLE = (0.05, 10.0)
"""Microns per pixel of optical slides; 72 dpi, a common default of image programs, would be 353."""


@dataclass(frozen=True, slots=True)
class Resolution:
    """Microns per level-0 pixel, where that was found, and what is odd about it."""

    mpp: Mpp
    source: str
    notes: tuple[str, ...] = ()


def derive(properties: Mapping[str, str], stated: float | None, path: Path | str) -> Resolution:
    """Find the resolution of a slide.

    Order: ``openslide.mpp-x`` and ``-y``, else 10 / ``openslide.objective-power``, else the value of the slide list.

    Parameters
    ----------
    properties : mapping
        The properties OpenSlide reads from the file.
    stated : float or None
        Microns per pixel in the slide list; None or NaN if it says nothing.
    path : Path
        The slide, for messages.

    Raises
    ------
    InputError
        If none of the three is there.
    """
    notes: list[str] = []
    table = _plausible(stated, "the slide list", notes)
    found = _from_pixels(properties, notes)
    power = _number(properties.get("openslide.objective-power"))
    if found is not None:
        if table is not None and abs(table / found - 1) > 0.05:
            notes.append(f"the slide list says {table:g} microns per pixel, the file {found:g}: the file is used")
        return Resolution(Mpp(found), "file", tuple(notes))
    if power is not None and power > 0:
        return Resolution(Mpp(10.0 / power), "objective", tuple(notes))
    if table is not None:
        return Resolution(Mpp(table), "slide list", tuple(notes))
    because = f" ({'; '.join(notes)})" if notes else ""
    raise InputError(
        path,
        f"microns per pixel unknown: neither mpp nor objective power in the file, no mpp in the slide list{because}",
        "Add the value to the column mpp of the slide list",
    )


def _from_pixels(properties: Mapping[str, str], notes: list[str]) -> float | None:
    x, y = (_plausible(_number(properties.get(f"openslide.mpp-{axis}")), "the file", notes) for axis in "xy")
    if x is None or y is None:
        return x if y is None else y
    if abs(x / y - 1) > 0.01:
        notes.append(f"pixels are not square ({x:g} x {y:g} microns): their mean is used")
    # resolutions stored as rationals come back as 0.49999999
    return float(f"{(x + y) / 2:.7g}")


def _plausible(value: float | None, where: str, notes: list[str]) -> float | None:
    if value is None or math.isnan(value):
        return None
    if not PLAUSIBLE[0] <= value <= PLAUSIBLE[1]:
        notes.append(f"{where} says {value:g} microns per pixel, which no microscope gives: ignored")
        return None
    return value


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text is not None else None
    except ValueError:
        return None
