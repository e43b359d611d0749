"""Features of other tools: read h5 (TRIDENT, CLAM, HIPT), pt, npy, npz and safetensors; write h5 that those tools read.

Nothing that could run code is loaded: no pickle, and PyTorch files only as plain tensors.

Shape legend: n tiles, d width of a token.
"""

import io
import logging
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from dml.core.errors import InputError, listed
from dml.core.files import atomic

logger = logging.getLogger(__name__)

Arrays = dict[str, NDArray[Any]]
_UNREADABLE = (OSError, ValueError, KeyError, RuntimeError, EOFError, zipfile.BadZipFile, pickle.UnpicklingError)


@dataclass(frozen=True, slots=True)
class FileLayout:
    """How to understand a foreign file.

    Attributes
    ----------
    tokens, coords : str
        Names of the arrays, where a file has several; `coords` None = there are none.
    um_per_px : float or None
        Microns per unit of the coordinates; None = as the file says (TRIDENT does), else coordinates are left out.
    at : corner or centre
        Which point of a tile the coordinates are.
    tile_um : float or None
        Side of a tile in microns; None = as the file says.
    """

    tokens: str = "features"
    coords: str | None = "coords"
    um_per_px: float | None = None
    at: Literal["corner", "centre"] = "corner"
    tile_um: float | None = None


def read_features_file(
    path: Path, form: FileLayout | None = None, content: bytes | None = None
) -> tuple[Float[np.ndarray, "n d"], Float[np.ndarray, "n 2"] | None]:
    """Read the features of one slide.

    Parameters
    ----------
    path : Path
        Its suffix says the format: .h5, .hdf5, .pt, .pth, .npy, .npz, .safetensors.
    form : Form, optional
        How to understand it.
    content : bytes, optional
        The file's content, for members of an archive; `path` is then only its name.

    Returns
    -------
    tokens : float [n d]
        As in the file.
    coords_um : float [n 2] or None
        Tile centres in microns; None if the file has no coordinates or does not say what their unit is.

    Raises
    ------
    InputError
        If the file is missing, damaged, of another format, or has no features of that shape.
    """
    form = form or FileLayout()
    arrays, attributes = _arrays(path, content)
    tokens = _tokens(path, arrays, form)
    if "coords_um" in arrays:
        return tokens, arrays["coords_um"].astype(np.float64)
    if form.coords is None or form.coords not in arrays:
        return tokens, None
    coords = arrays[form.coords].reshape(-1, arrays[form.coords].shape[-1])[:, :2].astype(np.float64)
    if len(coords) != len(tokens):
        found = f"{len(tokens)} feature vectors, but {len(coords)} coordinates"
        raise InputError(path, found, "Both must describe the same tiles; extract them again")
    return tokens, _centres(path, coords, attributes, form)


def write_h5(
    path: Path,
    tokens: Float[Tensor, "n d"] | Float[np.ndarray, "n d"],
    coords_um: Float[Tensor, "n 2"] | Float[np.ndarray, "n 2"] | None,
    meta: Mapping[str, Any],
) -> None:
    """Write the features of one slide in TRIDENT's layout.

    `features` [n d]; `coords` [n 2], top-left corners in level-0 pixels, if `meta` has the slide's `slide_mpp`;
    `coords_um` [n 2], exact centres in microns. Attributes of `coords` say the tile's side and magnification.

    Parameters
    ----------
    path : Path
        Where to, atomically.
    tokens, coords_um, meta
        As `store.read_features` returns them.
    """
    import h5py

    with atomic(path) as temporary, h5py.File(temporary, "w") as file:
        file.create_dataset("features", data=np.asarray(tokens))
        file.attrs["encoder"] = str(meta.get("encoder", ""))
        if coords_um is None:
            return
        centres = np.asarray(coords_um, np.float64)
        file.create_dataset("coords_um", data=centres)
        if meta.get("slide_mpp") and meta.get("tile_um"):
            corners = np.rint((centres - meta["tile_um"] / 2) / meta["slide_mpp"]).astype(np.int64)
            file.create_dataset("coords", data=corners).attrs.update(_trident(meta))


def _trident(meta: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "patch_size": round(meta["tile_um"] / meta["mpp"]),
        "patch_size_level0": round(meta["tile_um"] / meta["slide_mpp"]),
        "target_magnification": 10.0 / meta["mpp"],
        "level0_magnification": 10.0 / meta["slide_mpp"],
        "overlap": 0,
    }


def _centres(
    path: Path, coords: NDArray[np.float64], attributes: Mapping[str, Any], form: FileLayout
) -> NDArray[np.float64] | None:
    """Turn a file's coordinates into tile centres in microns, if its unit is known."""
    nominal, side = (_number(attributes.get(key)) for key in ("level0_magnification", "patch_size_level0"))
    scale = form.um_per_px
    if scale is None and side and form.tile_um:
        scale = form.tile_um / side
    if scale is None and nominal:
        scale = 10.0 / nominal
    tile_um = form.tile_um or (side * scale if side and scale else None)
    if scale is None or (form.at == "corner" and tile_um is None):
        logger.warning("%s: coordinates left out: microns per pixel or tile size unknown (coords_mpp)", path)
        return None
    return coords * scale + ((tile_um or 0.0) / 2 if form.at == "corner" else 0.0)


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if number > 0 else None


def _tokens(path: Path, arrays: Arrays, form: FileLayout) -> NDArray[Any]:
    floating = [name for name, array in arrays.items() if np.issubdtype(array.dtype, np.floating) and array.ndim > 1]
    name = form.tokens if form.tokens in arrays else floating[0] if len(floating) == 1 else None
    if name is None:
        found = f"no array called {form.tokens!r}, but {listed(sorted(arrays)) or 'none at all'}"
        raise InputError(path, found, "Say its name in the cohort description (features.tokens)")
    tokens = arrays[name][0] if arrays[name].ndim == 3 and len(arrays[name]) == 1 else arrays[name]
    if tokens.ndim != 2 or 0 in tokens.shape:
        raise InputError(
            path, f"features of shape {arrays[name].shape}, [tiles, width] is wanted", "Extract them again"
        )
    return tokens


def _arrays(path: Path, content: bytes | None) -> tuple[Arrays, dict[str, Any]]:
    """Return all arrays of a file by name (`features` if it has none) and the attributes that describe coordinates."""
    read = _READERS.get(path.suffix.lower())
    if read is None:
        raise InputError(path, f"unknown kind of feature file {path.suffix!r}", f"There are: {', '.join(_READERS)}")
    if content is None:
        if not path.is_file():
            raise InputError(path, "the file does not exist", "Check the path")
        content = path.read_bytes()
    if not content:
        raise InputError(path, "the file is empty (0 bytes)", "Copy it again")
    try:
        return read(content)
    except _UNREADABLE as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(path, f"not a readable {path.suffix} file ({reason[:200]})", "Copy it again") from None


def _h5(content: bytes) -> tuple[Arrays, dict[str, Any]]:
    import h5py

    with h5py.File(io.BytesIO(content), "r") as file:
        arrays = {name: item[()] for name, item in file.items() if isinstance(item, h5py.Dataset) and item.ndim}
        attributes = {key: value for name in arrays for key, value in file[name].attrs.items()}
        return arrays, {**attributes, **file.attrs}


def _pt(content: bytes) -> tuple[Arrays, dict[str, Any]]:
    import torch

    loaded = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    named = loaded if isinstance(loaded, dict) else {"features": loaded}
    tensors = {str(name): value for name, value in named.items() if isinstance(value, torch.Tensor)}
    return {name: _numpy(tensor) for name, tensor in tensors.items()}, {}


def _safetensors(content: bytes) -> tuple[Arrays, dict[str, Any]]:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return {name: _numpy(tensor) for name, tensor in load(content).items()}, {}
    except SafetensorError as error:
        raise ValueError(str(error)) from None


def _npy(content: bytes) -> tuple[Arrays, dict[str, Any]]:
    return {"features": np.load(io.BytesIO(content), allow_pickle=False)}, {}


def _npz(content: bytes) -> tuple[Arrays, dict[str, Any]]:
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        return {name: file[name] for name in file.files}, {}


def _numpy(tensor: Any) -> NDArray[Any]:
    import torch

    array: NDArray[Any] = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).detach().cpu().numpy()
    return array


_READERS = {
    ".h5": _h5, ".hdf5": _h5, ".pt": _pt, ".pth": _pt, ".npy": _npy, ".npz": _npz, ".safetensors": _safetensors
}  # fmt: skip
