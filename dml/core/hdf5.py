"""HDF5 files that somebody else wrote: judged by their headers before a byte of data is read."""

from pathlib import Path
from typing import Any

import numpy as np

from dml.core.errors import InputError

FREE_BYTES = 2**26
"""Bytes that a dataset may claim however small its file is."""
MAX_EXPANSION = 100
"""How many times larger than its file a dataset may be beyond that."""


def get_local(path: Path, group: Any, name: str) -> Any:
    """Return a member of a group of an open file that lies in the file itself.

    Raises
    ------
    InputError
        If it is a link: it could bring any file of this machine into a store.
    KeyError
        If there is none.
    """
    import h5py

    if name in group and not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise InputError(path, f"{name!r} is a link to other data", "Save the data themselves in the file")
    return group[name]


def read_dataset(path: Path, dataset: Any, max_bytes: int) -> np.ndarray:
    """Read a dataset whose data lie in the file and are as many as it could hold.

    Raises
    ------
    InputError
        If the data are elsewhere (external storage, virtual), or it claims more bytes than `max_bytes` or than its file
        could hold.
    """
    name, available = dataset.name, path.stat().st_size
    if dataset.external or dataset.is_virtual:
        kind = "in other files (external storage)" if dataset.external else "in other datasets (virtual)"
        raise InputError(path, f"the data of {name} are {kind}", "Save the data themselves in the file")
    claimed = int(np.prod(dataset.shape, dtype=object)) * max(1, dataset.dtype.itemsize)
    if claimed > max_bytes or claimed > max(FREE_BYTES, MAX_EXPANSION * available):
        problem = f"{name} claims {claimed} bytes, and the file has {available}"
        raise InputError(path, problem, f"At most {max_bytes} bytes, {MAX_EXPANSION} times the file's size, are read")
    return np.asarray(dataset[()])
