"""Keep freed memory for the next step instead of handing it back to the system, which costs page faults every time.

By default glibc returns large blocks as soon as they are freed; a step that makes the same temporaries again then
pays thousands of page faults (10 % and more of a step's time was measured; see docs/benchmarks.md).
"""

import ctypes
import logging

log = logging.getLogger(__name__)

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # malloc.h
_SETTINGS = {_MMAP_THRESHOLD: 1 << 25, _TRIM_THRESHOLD: 1 << 30, _TOP_PAD: 1 << 26}


def keep_freed_memory() -> bool:
    """Let the C library keep up to 1 GiB of freed memory; True if it does, False where it is not glibc."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        log.debug("no mallopt here: freed memory goes back to the system at once")
        return False
    return all(mallopt(name, value) == 1 for name, value in _SETTINGS.items())
