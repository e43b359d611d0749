"""Features of other tools: what a file holds is compared with its description; h5 that those tools read is written.

Shape legend: n tiles, d width of a token.
"""

import logging
import re
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
from dml.data.feature_store import is_finite
from dml.encoders.registry import canonical, known_encoder
from dml.features.file_arrays import Arrays, Attributes, read_arrays

logger = logging.getLogger(__name__)

MAX_COORDINATE = 1e7
"""Pixels or microns from the corner of a slide beyond which no tile lies."""
TOLERANCE = 1.3
"""Factor by which a file's nominal magnification or tile size may differ from the description."""


@dataclass(frozen=True, slots=True)
class FileLayout:
    """How to read a file of another tool, and what it must hold.

    Attributes
    ----------
    tokens, coords : str
        Names of the arrays, where a file has several; `coords` None = there are none.
    um_per_px : float or None
        Microns per unit of the coordinates; None = as the file says (TRIDENT and STAMP do), else they are left out.
    at : corner or centre
        Which point of a tile the coordinates are.
    tile_um : float or None
        Side of a tile in microns; None = as the file says.
    encoder : str or None
        The encoder that the description names; a file that names another one is refused.
    mpp : float or None
        Microns per pixel that the description names; a file of another magnification is refused.
    """

    tokens: str = "features"
    coords: str | None = "coords"
    um_per_px: float | None = None
    at: Literal["corner", "centre"] = "corner"
    tile_um: float | None = None
    encoder: str | None = None
    mpp: float | None = None


def read_features_file(
    path: Path, layout: FileLayout | None = None, content: bytes | None = None
) -> tuple[Float[np.ndarray, "n d"], Float[np.ndarray, "n 2"] | None]:
    """Read the features of one slide.

    Parameters
    ----------
    path : Path
        Its suffix says the format: .h5, .hdf5, .pt, .pth, .npy, .npz, .safetensors.
    layout : FileLayout, optional
        How to read it, and what it must hold.
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
        If the file is missing, damaged, of another format, has no finite features of that shape, or says that it holds
        another encoder, magnification or tile size.
    """
    layout = layout or FileLayout()
    if layout.encoder is not None:
        _check_name(path, layout.encoder)
    arrays, attributes = read_arrays(path, content)
    _compare(path, attributes, layout)
    tokens = _tokens(path, arrays, layout)
    if "coords_um" in arrays:
        return tokens, _coordinates(path, arrays["coords_um"], len(tokens))
    if layout.coords is None or layout.coords not in arrays:
        return tokens, None
    return tokens, _centres(path, _coordinates(path, arrays[layout.coords], len(tokens)), attributes, layout)


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
        As `feature_store.read_features` returns them.
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
            file.create_dataset("coords", data=corners).attrs.update(_trident_attributes(meta))


def _trident_attributes(meta: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "patch_size": round(meta["tile_um"] / meta["mpp"]),
        "patch_size_level0": round(meta["tile_um"] / meta["slide_mpp"]),
        "target_magnification": 10.0 / meta["mpp"],
        "level0_magnification": 10.0 / meta["slide_mpp"],
        "overlap": 0,
    }


def _check_name(path: Path, encoder: str) -> None:
    """Refuse a file that is named for another encoder: P1_uni.h5 beside P1_conch.h5."""
    suffix = re.split(r"[_\-.](?=[^_\-.]+$)", path.stem)[-1]
    named = known_encoder(suffix)
    if named is not None and named != canonical(encoder) and suffix.lower() not in encoder.lower():
        problem = f"by its name features of {suffix}, not of {encoder}"
        raise InputError(path, problem, "Correct `encoder`, or keep each encoder's files in a folder of their own")


def _compare(path: Path, attributes: Attributes, layout: FileLayout) -> None:
    """Compare what the file says of itself with its description; TRIDENT and STAMP write attributes."""
    written = str(attributes.get("encoder") or attributes.get("extractor") or "")
    if written and layout.encoder is not None and canonical(written) != canonical(layout.encoder):
        raise InputError(path, f"features of {written}, not of {layout.encoder}", "Correct `encoder`, or the file")
    magnification = _number(attributes.get("target_magnification"))
    mpp = 10.0 / magnification if magnification else None
    tile_um = _number(attributes.get("tile_size_um"))
    side = _number(attributes.get("patch_size"))
    if tile_um is None and mpp and side:
        tile_um = side * mpp
    for name, value, expected in (("mpp", mpp, layout.mpp), ("tile_um", tile_um, layout.tile_um)):
        if value and expected and max(value / expected, expected / value) > TOLERANCE:
            unit = "microns per pixel" if name == "mpp" else "microns a tile"
            raise InputError(path, f"features at {value:g} {unit}, not {expected:g}", f"Correct `{name}`, or the file")


def _tokens(path: Path, arrays: Arrays, layout: FileLayout) -> NDArray[Any]:
    """Take the array of features: by its name, or the only one there is beside the coordinates."""
    others = [name for name in arrays if name not in (layout.coords, "coords_um")]
    floating = [name for name in others if arrays[name].dtype.kind == "f" and arrays[name].ndim > 1]
    only = floating if len(floating) == 1 else others if len(others) == 1 else [""]
    name = layout.tokens if layout.tokens in arrays else only[0]
    if name not in arrays:
        problem = f"no array called {layout.tokens!r}, but {listed(sorted(arrays)) or 'none at all'}"
        raise InputError(path, problem, "Say its name: `features.tokens` in the cohort description")
    tokens = arrays[name]
    tokens = tokens[0] if tokens.ndim == 3 and len(tokens) == 1 else tokens
    if tokens.dtype.kind != "f":
        raise InputError(path, f"features of type {tokens.dtype}; floats are expected", "Extract the features again")
    if tokens.ndim != 2 or 0 in tokens.shape:
        raise InputError(path, f"features of shape {tokens.shape}, [tiles, width] is expected", "Extract them again")
    if not is_finite(tokens):
        bad = int((~np.isfinite(tokens)).any(axis=1).sum())
        raise InputError(path, f"{bad} of {len(tokens)} tiles have NaN or infinite features", "Extract them again")
    return tokens


def _coordinates(path: Path, coords: NDArray[Any], tiles: int) -> NDArray[np.float64]:
    """Return two columns of finite numbers, one row a tile."""
    again = "Both must describe the same tiles; extract them again"
    if coords.dtype.kind not in "iuf" or coords.ndim not in (2, 3) or coords.shape[-1] < 2:
        problem = f"coordinates of type {coords.dtype} and shape {coords.shape}; two numbers a tile are expected"
        raise InputError(path, problem, again)
    columns = coords.reshape(-1, coords.shape[-1])[:, :2].astype(np.float64)
    if len(columns) != tiles:
        raise InputError(path, f"{tiles} feature vectors, but {len(columns)} coordinates", again)
    if not (np.abs(columns) < MAX_COORDINATE).all():
        raise InputError(path, f"coordinates that are not on any slide (NaN, or beyond {MAX_COORDINATE:g})", again)
    return columns


def _centres(
    path: Path, coords: NDArray[np.float64], attributes: Mapping[str, Any], layout: FileLayout
) -> NDArray[np.float64] | None:
    """Turn a file's coordinates into tile centres in microns, if its unit is known."""
    nominal, side = (_number(attributes.get(key)) for key in ("level0_magnification", "patch_size_level0"))
    scale = layout.um_per_px
    if scale is None and str(attributes.get("unit", "")).lower() in ("um", "µm", "micron", "microns"):
        scale = 1.0  # STAMP
    if scale is None and side and layout.tile_um:
        scale = layout.tile_um / side
    if scale is None and nominal:
        scale = 10.0 / nominal
    tile_um = layout.tile_um or _number(attributes.get("tile_size_um")) or (side * scale if side and scale else None)
    if scale is None or (layout.at == "corner" and tile_um is None):
        logger.warning("%s: coordinates left out: microns per pixel or tile size unknown (coords_mpp)", path)
        return None
    return coords * scale + ((tile_um or 0.0) / 2 if layout.at == "corner" else 0.0)


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if 0 < number < float("inf") else None
