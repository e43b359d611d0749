"""HDF5 files that somebody else wrote: checked by their headers before a byte of data is read."""

from pathlib import Path
from typing import Any

import numpy as np

from dml.core.errors import InputError
from dml.core.limits import current


def check_claim(path: Path, name: str, claimed: int, available: int, max_bytes: int) -> None:
    """Refuse an array that claims to be larger than it may be, or than the bytes that it is read from.

    Raises
    ------
    InputError
        With both numbers.
    """
    limits = current()
    if limits.too_large(claimed, available, max_bytes):
        problem = f"{name!r} claims {claimed} bytes, and the file has {available}"
        remedy = f"At most {max_bytes} bytes, {limits.expansion} times the file's size, are read (params.yaml: limits)"
        raise InputError(path, problem, remedy)


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
    """Read a dataset of an open file whose data lie in the file and are as many as it could hold.

    Raises
    ------
    InputError
        As `check_dataset`.
    """
    check_dataset(path, dataset, max_bytes, path.stat().st_size)
    return np.asarray(dataset[()])


def check_dataset(path: Path, dataset: Any, max_bytes: int, available: int) -> None:
    """Refuse a dataset by its header.

    Parameters
    ----------
    path : Path
        The file, for messages.
    dataset : h5py.Dataset
        Of an open file.
    max_bytes : int
        Bytes that it may have at most.
    available : int
        Bytes that the file has.

    Raises
    ------
    InputError
        If the data are elsewhere (external storage, virtual), or it claims more bytes than `max_bytes` or than its file
        could hold.
    """
    name = dataset.name.removeprefix("/")
    if dataset.external or dataset.is_virtual:
        kind = "in other files (external storage)" if dataset.external else "in other datasets (virtual)"
        raise InputError(path, f"the data of {name!r} are {kind}", "Save the data themselves in the file")
    claimed = int(np.prod(dataset.shape, dtype=object)) * max(1, dataset.dtype.itemsize)
    check_claim(path, name, claimed, available, max_bytes)
