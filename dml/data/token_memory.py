"""Where the tokens of a cohort lie: in memory where they fit, else in a file that the system pages in and out.

The file is mapped once and deleted at once, so that nothing stays behind whatever ends the process. Forked training
processes share its pages.
"""

import logging
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from tempfile import NamedTemporaryFile

import torch

from dml.core.errors import InputError
from dml.core.files import WORK
from dml.core.types import Bag, Mpp, MultiScaleBags

log = logging.getLogger(__name__)

SHARE = 0.6
"""Of the memory that is available, what tokens may take; training needs some, too."""
_HALF = 2  # bytes of a float16


class Shelf:
    """A mapped file with room for so many numbers, into which bags are moved one after the other."""

    def __init__(self, numbers: int, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
        if numbers * _HALF > free:
            found = (
                f"{numbers * _HALF / 1e9:.1f} GB of tokens fit neither in memory nor on this disk ({free / 1e9:.1f} GB)"
            )
            raise InputError(folder, found, "Free some, lower tiles.max_tiles, or use a larger machine")
        with NamedTemporaryFile(dir=folder, prefix="tokens-") as file:
            self._numbers = torch.from_file(file.name, shared=True, size=numbers, dtype=torch.float16)
        self._used = 0

    def moved(self, bag: Bag) -> Bag:
        """Return the bag with its tokens in the file."""
        place = self._numbers[self._used : self._used + bag.tokens.numel()].view(bag.tokens.shape)
        self._used += bag.tokens.numel()
        place.copy_(bag.tokens)
        return replace(bag, tokens=place)


def shelved(
    pyramids: Iterable[tuple[str, MultiScaleBags]], tokens: int, folder: Path = WORK
) -> dict[str, MultiScaleBags]:
    """Collect the bags of a cohort, in memory or, if they take more than `SHARE` of it, in a file.

    Parameters
    ----------
    pyramids : iterable of (patient, MultiScaleBags)
        Read one after the other.
    tokens : int
        How many there are in all.
    folder : Path
        Where the file is.

    Raises
    ------
    InputError
        If there is no room on the disk either.
    """
    shelf: Shelf | None = None
    kept: dict[str, MultiScaleBags] = {}
    limit = SHARE * available()
    for patient, pyramid in pyramids:
        width = max((bag.tokens.shape[1] for bag in pyramid.values()), default=0)
        if shelf is None and tokens * width * _HALF > limit:
            size, there = tokens * width * _HALF / 1e9, limit / SHARE / 1e9
            log.info("%.1f GB of tokens, %.1f GB of memory: they are read from disk as they are needed", size, there)
            shelf = Shelf(tokens * width, folder)
        kept[patient] = pyramid if shelf is None else _moved(pyramid, shelf)
    return kept


def _moved(pyramid: MultiScaleBags, shelf: Shelf) -> dict[Mpp, Bag]:
    return {mpp: shelf.moved(bag) for mpp, bag in pyramid.items()}


def available() -> int:
    """Bytes of memory that this process may still take, by the system and by the limit of its container."""
    meminfo = dict(line.split(":") for line in _lines(Path("/proc/meminfo")))
    system = int(meminfo.get("MemAvailable", "0").split()[0]) * 1024 or 1 << 62
    group = Path("/sys/fs/cgroup")
    most, used = ("".join(_lines(group / name)) for name in ("memory.max", "memory.current"))
    return min(system, int(most) - int(used)) if most.isdigit() and used.isdigit() else system


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []
