"""Keep the tokens of a cohort in memory, or in a temporary memory-mapped file if they exceed 60 % of free memory.

The file is mapped and unlinked at once, so that nothing stays behind whatever ends the process. Forked training
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
from dml.core.types import Bag, MultiScaleBags

log = logging.getLogger(__name__)

MAX_MEMORY_SHARE = 0.6
"""Share of the available memory that tokens may take; training needs some, too."""
_FLOAT16_BYTES = 2


class TokenMemmap:
    """A memory-mapped file with room for `size` float16 numbers, filled bag by bag."""

    def __init__(self, size: int, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        free, wanted = shutil.disk_usage(folder).free, size * _FLOAT16_BYTES
        if wanted > free:
            problem = f"{wanted / 1e9:.1f} GB of tokens fit neither in memory nor on this disk ({free / 1e9:.1f} GB)"
            raise InputError(folder, problem, "Free some, lower tiles.max_tiles, or use a larger machine")
        with NamedTemporaryFile(dir=folder, prefix="tokens-") as file:
            self._numbers = torch.from_file(file.name, shared=True, size=size, dtype=torch.float16)
        self._used = 0

    def store(self, bag: Bag) -> Bag:
        """Return the bag with its tokens in the file."""
        mapped = self._numbers[self._used : self._used + bag.tokens.numel()].view(bag.tokens.shape)
        self._used += bag.tokens.numel()
        mapped.copy_(bag.tokens)
        return replace(bag, tokens=mapped)


def load_or_memmap(
    bags: Iterable[tuple[str, MultiScaleBags]], tokens: int, folder: Path = WORK, memory: int | None = None
) -> dict[str, MultiScaleBags]:
    """Collect the bags of a cohort, in memory or, if they take more than `MAX_MEMORY_SHARE` of it, in a file.

    Parameters
    ----------
    bags : iterable of (patient, MultiScaleBags)
        Read one after the other.
    tokens : int
        Number of tokens in all.
    folder : Path
        Folder of the file.
    memory : int, optional
        Bytes that are free, by default what the system reports.

    Raises
    ------
    InputError
        If there is no room on the disk either.
    """
    memmap: TokenMemmap | None = None
    collected: dict[str, MultiScaleBags] = {}
    limit = MAX_MEMORY_SHARE * (available_memory() if memory is None else memory)
    for patient, scales in bags:
        width = max((bag.tokens.shape[1] for bag in scales.values()), default=0)
        if memmap is None and tokens * width * _FLOAT16_BYTES > limit:
            size, free = tokens * width * _FLOAT16_BYTES / 1e9, limit / MAX_MEMORY_SHARE / 1e9
            log.info("%.1f GB of tokens, %.1f GB of memory: they are read from disk as they are needed", size, free)
            memmap = TokenMemmap(tokens * width, folder)
        collected[patient] = scales if memmap is None else {mpp: memmap.store(bag) for mpp, bag in scales.items()}
    return collected


def available_memory() -> int:
    """Bytes of memory that this process may still take, by the system and by the limit of its container."""
    meminfo = dict(line.split(":") for line in _read_lines(Path("/proc/meminfo")))
    system = int(meminfo.get("MemAvailable", "0").split()[0]) * 1024 or 1 << 62
    group = Path("/sys/fs/cgroup")
    most, used = ("".join(_read_lines(group / name)) for name in ("memory.max", "memory.current"))
    return min(system, int(most) - int(used)) if most.isdigit() and used.isdigit() else system


def _read_lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []
