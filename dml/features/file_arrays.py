"""Arrays of h5, pt, npy, npz and safetensors files that somebody else wrote; sizes are checked before anything is read.

Nothing that could run code is loaded: no pickle, and PyTorch files only as plain tensors. Data outside the file
(external storage, links, virtual datasets of HDF5) are refused: they would bring any file of this machine into a store.
"""

import io
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dml.core.errors import InputError, first_line
from dml.core.hdf5 import check_claim, check_dataset, get_local
from dml.core.limited_process import call_limited
from dml.core.limits import current

Arrays = dict[str, NDArray[Any]]
Attributes = dict[str, Any]
_AGAIN = "Copy it again"


def read_arrays(path: Path, content: bytes | None = None) -> tuple[Arrays, Attributes]:
    """Read the arrays of a file by name, and the attributes that HDF5 files have.

    Parameters
    ----------
    path : Path
        Its suffix says the format: .h5, .hdf5, .pt, .pth, .npy, .npz, .safetensors.
    content : bytes, optional
        The file's content, for members of an archive; `path` is then only its name.

    Raises
    ------
    InputError
        If the file is missing, damaged, of another format, too large, or its data lie elsewhere.
    """
    read = READERS.get(path.suffix.lower())
    if read is None:
        raise InputError(path, f"unknown kind of feature file {path.suffix!r}", f"There are: {', '.join(READERS)}")
    if content is None:
        if not path.is_file():
            raise InputError(path, "the file does not exist", "Check the path")
        check_bytes(path, path.stat().st_size)
    if not (path.stat().st_size if content is None else content):
        raise InputError(path, "the file is empty (0 bytes)", _AGAIN)
    try:
        if read is _read_h5:  # the library is in C: its process reads the file, too
            return call_limited(path, _read_content, read, path, content)
        return _read_content(read, path, content)
    except InputError:
        raise
    except Exception as error:
        raise InputError(path, f"not a readable {path.suffix} file ({first_line(error)})", _AGAIN) from error


def _read_content(read: "Reader", path: Path, content: bytes | None) -> tuple[Arrays, Attributes]:
    return read(path, path.read_bytes() if content is None else content)


def check_bytes(path: Path, size: int) -> None:
    """Refuse a file that is larger than any bag of features.

    Raises
    ------
    InputError
        If it has more than `limits.feature_bytes` of params.yaml.
    """
    if size > (most := current().feature_bytes):
        remedy = "Is it a file of features? Else raise limits.feature_bytes"
        raise InputError(path, f"{size} bytes; features have at most {most}", remedy)


def _read_h5(path: Path, content: bytes) -> tuple[Arrays, Attributes]:
    import h5py

    arrays: Arrays = {}
    attributes: Attributes = {}
    with h5py.File(io.BytesIO(content), "r") as file:
        for name in file:
            item = get_local(path, file, name)
            if isinstance(item, h5py.Dataset) and item.ndim:
                check_dataset(path, item, current().feature_bytes, len(content))
                if item.size and not item.id.get_storage_size():
                    raise InputError(path, f"nothing was written into {name!r}", "Extract the features again")
                arrays[name] = item[()]
                attributes |= _scalars(item.attrs)
        return arrays, {**attributes, **_scalars(file.attrs)}


def _scalars(attributes: Mapping[str, Any]) -> Attributes:
    """Return the attributes that are one number or a short text."""
    values = {}
    for name in attributes:
        space = attributes.get_id(name).get_space()  # type: ignore[attr-defined]
        if space.get_simple_extent_npoints() == 1:
            value = np.asarray(attributes[name]).reshape(-1)[0]
            values[name] = value.decode(errors="replace") if isinstance(value, bytes) else value
    return values


def _read_pt(path: Path, content: bytes) -> tuple[Arrays, Attributes]:
    import torch

    _check_zip(path, content)
    try:
        loaded = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:
        if "numpy" in str(error):
            remedy = "Save the tensor: torch.save(torch.from_numpy(features), path), or np.save into .npy"
            raise InputError(path, "holds NumPy arrays, which are pickled", remedy) from error
        raise
    if not isinstance(loaded, torch.Tensor | dict):
        kind = (
            f"a {type(loaded).__name__} of {len(loaded)}" if isinstance(loaded, tuple | list) else type(loaded).__name__
        )
        remedy = 'Save one tensor [tiles, width], or a dict {"features": ..., "coords": ...} of tensors'
        raise InputError(path, f"holds {kind}, not a tensor", remedy)
    named = loaded if isinstance(loaded, dict) else {"features": loaded}
    tensors = {str(name): value for name, value in named.items() if isinstance(value, torch.Tensor)}
    return {name: _numpy(path, name, tensor) for name, tensor in tensors.items()}, {}


def _read_safetensors(path: Path, content: bytes) -> tuple[Arrays, Attributes]:
    from safetensors.torch import load

    return {name: _numpy(path, name, tensor) for name, tensor in load(content).items()}, {}


def _read_npy(path: Path, content: bytes) -> tuple[Arrays, Attributes]:
    return {"features": _npy_array(path, "features", content)}, {}


def _read_npz(path: Path, content: bytes) -> tuple[Arrays, Attributes]:
    _check_zip(path, content)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = {name.removesuffix(".npy"): name for name in archive.namelist()}
        return {key: _npy_array(path, key, archive.read(name)) for key, name in names.items()}, {}


def _npy_array(path: Path, name: str, content: bytes) -> NDArray[Any]:
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read_header(file)
    claimed = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if claimed > len(content):
        raise InputError(path, f"{name!r} claims {claimed} bytes, and the file has {len(content)}", _AGAIN)
    file.seek(0)
    array: NDArray[Any] = np.load(file, allow_pickle=False)
    return array


def _check_zip(path: Path, content: bytes) -> None:
    """Refuse a zip (npz, pt) whose members expand beyond the limits."""
    if content[:4] == b"PK\x03\x04":
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            expanded = sum(info.file_size for info in archive.infolist())
            check_claim(path, "the archive", expanded, len(content), current().feature_bytes)


def _numpy(path: Path, name: str, tensor: Any) -> NDArray[Any]:
    import torch

    if tensor.layout != torch.strided:
        raise InputError(path, f"{name!r} is a sparse tensor", "Save it dense: torch.save(tensor.to_dense(), path)")
    if tensor.is_quantized:
        raise InputError(
            path, f"{name!r} is a quantised tensor", "Save it as floats: torch.save(tensor.dequantize(), path)"
        )
    stored = tensor.untyped_storage().nbytes()
    check_claim(path, name, tensor.numel() * tensor.element_size(), stored, current().feature_bytes)
    array: NDArray[Any] = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).detach().cpu().numpy()
    return array


Reader = Callable[[Path, bytes], tuple[Arrays, Attributes]]
READERS: dict[str, Reader] = {
    ".h5": _read_h5, ".hdf5": _read_h5, ".pt": _read_pt, ".pth": _read_pt, ".npy": _read_npy, ".npz": _read_npz,
    ".safetensors": _read_safetensors,
}  # fmt: skip
"""How a file is read, by its suffix."""
