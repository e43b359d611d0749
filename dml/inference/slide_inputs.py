"""What a user hands a registered model for one patient: slides or feature files, turned into a pyramid or refused.

Everything here raises a DmlError with a reason; the caller turns it into a refused row, never into a failed batch.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from dml.core.errors import DmlError, InputError
from dml.core.types import Bag, Microns, Mpp, MultiScaleBags
from dml.data.feature_store import concatenate_bags
from dml.training.checkpoint import ModelSpec

FOREIGN = (".h5", ".hdf5", ".pt", ".npy", ".npz", ".safetensors")
"""Feature files of other tools; ``.parquet`` is our own store, anything else is taken for a slide."""
FEATURES = (".parquet", *FOREIGN)
_UNREADABLE = (DmlError, OSError, ValueError, RuntimeError, KeyError)
"""What readers raise for files they cannot make sense of."""


class Unusable(DmlError):
    """None of a patient's slides can be used."""

    exit_code = 3


class Given(NamedTuple):
    """What could be read of a patient: one bag per resolution, the slides in it by their index, why others are not."""

    pyramid: MultiScaleBags
    slides: tuple[str, ...]
    reasons: list[str]


def read_slides(paths: Sequence[Path], spec: ModelSpec) -> Given:
    """Read all slides of a patient, given as slides, as feature files, or mixed.

    Feature files of one slide at several resolutions have the same file name; those that lie beside a given file as in
    the store (``<mpp>/<slide>.parquet``) are found without being named.

    Raises
    ------
    Unusable
        If no slide is; the message has every reason.
    """
    slides: dict[str, dict[Mpp, Bag]] = {}
    reasons: dict[str, str] = {}
    for path in dict.fromkeys(paths):
        try:
            slides.setdefault(path.stem, {}).update(_read(path, spec))
        except _UNREADABLE as error:
            reasons[path.stem] = _one_line(path, error)
    usable: dict[str, Mapping[Mpp, Bag]] = {}
    for name, levels in sorted(slides.items()):  # as in training; the order a user gives must not matter
        missing = [f"{mpp:g}" for mpp in spec.preprocessor.mpps if Mpp(mpp) not in levels]
        if not missing:
            usable[name] = levels
        elif name not in reasons:
            reasons[name] = f"{name}: no tokens at {', '.join(missing)} microns per pixel, which the model needs"
    if not usable:
        raise Unusable("; ".join(reasons.values()) or "no slide given")
    return Given(join(list(usable.values())), tuple(usable), list(reasons.values()))


def join(slides: Sequence[Mapping[Mpp, Bag]]) -> MultiScaleBags:
    """Concatenate the slides of one patient; coordinates are kept only if all slides have them."""
    return {mpp: concatenate_bags([slide[mpp] for slide in slides]) for mpp in slides[0]}


def _read(path: Path, spec: ModelSpec) -> Mapping[Mpp, Bag]:
    if not path.exists():
        raise InputError(path, "the file does not exist", "Check the path")
    if path.suffix == ".parquet":
        return _stored(path, spec)
    if path.suffix in FOREIGN:
        return _foreign(path, spec)
    from dml.features.encode_slide import encode_slide

    return _nonempty(path, encode_slide(path, spec.preprocessor.encoder, spec.tiles))


def _stored(path: Path, spec: ModelSpec) -> dict[Mpp, Bag]:
    """Read a file of our store and the same slide's other resolutions beside it."""
    from dml.data.feature_store import read_features

    beside = [path.parent.parent / f"{mpp:g}" / path.name for mpp in spec.preprocessor.mpps]
    files = [path, *(other for other in beside if other != path and other.exists())]
    bags = {}
    for file in files:
        tokens, coords, meta = read_features(file, finite=True)
        bag = _bag(file, tokens, coords, meta, spec)
        bags[bag.mpp] = bag
    return bags


def _foreign(path: Path, spec: ModelSpec) -> dict[Mpp, Bag]:
    """Read another tool's features: of the resolution its folder is named for, or of the model's only one."""
    from dml.features.foreign_formats import read_features_file

    tokens, coords = read_features_file(path)
    _check_width(path, tokens, spec)
    by_folder = {f"{mpp:g}": mpp for mpp in spec.preprocessor.mpps}
    mpp = by_folder.get(path.parent.name, spec.preprocessor.mpps[0] if len(by_folder) == 1 else None)
    if mpp is None:
        expected = " and ".join(by_folder)
        raise InputError(path, "resolution unknown", f"Put the files into folders named {expected} (microns per pixel)")
    meta = {"encoder": spec.preprocessor.encoder, "mpp": mpp}
    bag = _bag(path, torch.as_tensor(np.asarray(tokens)), coords, meta, spec)
    return {bag.mpp: bag}


def _bag(path: Path, tokens: Any, coords: Any, meta: Mapping[str, Any], spec: ModelSpec) -> Bag:
    """Check the tokens of a file against what the model was trained on."""
    prepared = spec.preprocessor
    if meta["encoder"] != prepared.encoder:
        raise InputError(path, f"features of encoder {meta['encoder']}", f"The model needs {prepared.encoder}")
    _check_width(path, tokens, spec)
    expected = dict(zip(prepared.mpps, prepared.tile_um, strict=True))
    mpp = next((mpp for mpp in expected if abs(mpp - float(meta["mpp"])) < 1e-6), None)
    if mpp is None:
        known = " and ".join(f"{mpp:g}" for mpp in expected)
        raise InputError(path, f"features at {float(meta['mpp']):g} microns per pixel", f"The model needs {known}")
    tile_um = float(meta.get("tile_um") or expected[mpp])
    if abs(tile_um - expected[mpp]) > 0.01 * expected[mpp]:
        raise InputError(path, f"tiles of {tile_um:g} microns", f"The model needs {expected[mpp]:g}")
    where = None if coords is None else torch.as_tensor(coords, dtype=torch.float32)
    index = torch.zeros(len(tokens), dtype=torch.long)
    bag = Bag(tokens, where, index, Mpp(mpp), Microns(tile_um), prepared.encoder)
    return _nonempty(path, {bag.mpp: bag})[bag.mpp]


def _check_width(path: Path, tokens: Any, spec: ModelSpec) -> None:
    prepared, shape = spec.preprocessor, tuple(tokens.shape)
    width = len(prepared.tokens.mean)
    if len(shape) != 2 or shape[1] != width:
        what = f"features of {shape[1]} numbers a tile" if len(shape) == 2 else f"features of shape {shape}"
        raise InputError(path, what, f"The model needs {width} ({prepared.encoder})")


def _nonempty(path: Path, pyramid: MultiScaleBags) -> MultiScaleBags:
    for mpp, bag in pyramid.items():
        if not len(bag):
            raise InputError(path, f"no tissue tile at {mpp:g} microns per pixel", "Is it a stained tissue slide")
        if not bool(torch.isfinite(bag.tokens).all()):
            raise InputError(
                path, f"features at {mpp:g} microns per pixel with NaN or infinite values", "Extract again"
            )
    return pyramid


def _one_line(path: Path, error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if path.name in text else f"{path}: {type(error).__name__}: {text}"
