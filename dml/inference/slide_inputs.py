"""The slides of one patient in a request: slide or feature files, read into one bag per resolution or refused.

Everything here raises a DmlError with a reason; the caller turns it into a refused row, never into a failed batch.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from dml.core.errors import DmlError, InputError
from dml.core.types import Bag, Microns, Mpp, MultiScaleBags
from dml.data.feature_store import IMPORTED, concatenate_bags, is_finite
from dml.features.file_arrays import READERS
from dml.inference.file_access import FileAccess
from dml.training.checkpoint import ModelSpec

if TYPE_CHECKING:
    from dml.features.encode_slide import Selection

FOREIGN = tuple(READERS)
"""Feature files of other tools; ``.parquet`` is our own store, anything else is taken for a slide."""
FEATURES = (".parquet", *FOREIGN)
_UNREADABLE = (DmlError, OSError, ValueError, RuntimeError, KeyError, TypeError, ArithmeticError, MemoryError)
"""What readers raise for files they cannot make sense of."""


class NoUsableSlide(DmlError):
    """None of a patient's slides can be used."""

    exit_code = 3


class SlideRequest(NamedTuple):
    """A row of a request: a slide or feature file; of a slide what `open_slide` is to know of its resolution."""

    path: Path
    mpp: float | None = None
    upsample: bool = False


class SlideInputs(NamedTuple):
    """What was read of a patient: one bag per resolution, names of its slides by index, why others are left out."""

    bags: MultiScaleBags
    slides: tuple[str, ...]
    reasons: list[str]


def read_slides(
    requests: Sequence[SlideRequest], spec: ModelSpec, access: FileAccess, select: "Selection | None" = None
) -> SlideInputs:
    """Read all slides of a patient, given as slides, as feature files, or mixed.

    Feature files of one slide at several resolutions have the same file name; those that lie beside a given file as in
    the store (``<mpp>/<slide>.parquet``) are read without being named. With `select`, a patient's only slide is
    read where it says; of several slides all tiles are, since where a model zooms depends on all of them.

    Raises
    ------
    NoUsableSlide
        If no slide can be used; the message has every reason.
    """
    slides: dict[str, dict[Mpp, dict[Path, Bag]]] = {}
    reasons: dict[str, str] = {}
    for request in dict.fromkeys(requests):
        path = request.path
        try:
            for file, bag in _read(request, spec, access, select if len(requests) == 1 else None):
                slides.setdefault(path.stem, {}).setdefault(bag.mpp, {})[file.resolve()] = bag
        except _UNREADABLE as error:
            reasons[path.stem] = _one_line(path, error)
    usable: dict[str, Mapping[Mpp, Bag]] = {}
    for name, levels in sorted(slides.items()):  # as in training; the order a user gives must not matter
        missing = [f"{mpp:g}" for mpp in spec.preprocessor.mpps if Mpp(mpp) not in levels]
        twice = next((files for files in levels.values() if len(files) > 1), None)
        if twice:
            reasons[name] = f"{name}: two slides of this name ({', '.join(map(str, twice))}). Rename one of them"
        elif not missing:
            usable[name] = {mpp: bag for mpp, files in levels.items() for bag in files.values()}
        elif name not in reasons:
            reasons[name] = f"{name}: no tokens at {', '.join(missing)} microns per pixel, which the model needs"
    if not usable:
        raise NoUsableSlide("; ".join(reasons.values()) or "no slide given")
    bags = {mpp: concatenate_bags([levels[mpp] for levels in usable.values()]) for mpp in next(iter(usable.values()))}
    return SlideInputs(bags, tuple(usable), list(reasons.values()))


def _read(
    request: SlideRequest, spec: ModelSpec, access: FileAccess, select: "Selection | None"
) -> list[tuple[Path, Bag]]:
    """Bags of one file and of those beside it that belong to the same slide, each with the file it is from."""
    path, file = request.path, access.file(request.path)
    if path.suffix == ".parquet":
        return [(each, _stored(each, spec)) for each in (file, *_beside(file, spec, access))]
    if path.suffix in FOREIGN:
        return [(file, _foreign(file, spec))]
    from dml.features.encode_slide import encode_slide
    from dml.slides.tile_slide import SlideOptions

    options = SlideOptions(request.mpp, upsample=request.upsample)
    bags = encode_slide(file, spec.preprocessor.encoder, spec.tiles, spec.embed, options, select)
    return [(file, _nonempty(file, bag)) for bag in bags.values()]


def _beside(file: Path, spec: ModelSpec, access: FileAccess) -> list[Path]:
    """Files of our store with the same slide's other resolutions."""
    others = [file.parent.parent / f"{mpp:g}" / file.name for mpp in spec.preprocessor.mpps]
    return [access.file(other) for other in others if other != file and other.exists()]


def _stored(file: Path, spec: ModelSpec) -> Bag:
    from dml.data.feature_store import read_features

    tokens, coords, meta = read_features(file, finite=True)
    check_stains(file, meta, spec)
    return _bag(file, tokens, coords, meta, spec)


def check_stains(path: Path, meta: Mapping[str, Any], spec: ModelSpec) -> None:
    """Raise InputError if stored features were made with another stain normalisation than a model's."""
    stored, trained = meta.get("stain_normalisation"), spec.embed.stain_normalisation
    if meta.get("weights") != IMPORTED and stored != trained:
        problem = f"features with stain normalisation {stored or 'null'}"
        remedy = f"Extract them with embed.stain_normalisation: {trained or 'null'}, as the model's were"
        raise InputError(path, problem, remedy)


def _foreign(path: Path, spec: ModelSpec) -> Bag:
    """Read another tool's features: of the resolution its folder is named for, or of the model's only one."""
    from dml.features.foreign_formats import FileLayout, read_features_file

    by_folder = {f"{mpp:g}": mpp for mpp in spec.preprocessor.mpps}
    mpp = by_folder.get(path.parent.name, spec.preprocessor.mpps[0] if len(by_folder) == 1 else None)
    sizes = dict(zip(spec.preprocessor.mpps, spec.preprocessor.tile_um, strict=True))
    tile_um = None if mpp is None else sizes[mpp]
    tokens, coords = read_features_file(path, FileLayout(encoder=spec.preprocessor.encoder, mpp=mpp, tile_um=tile_um))
    _check_width(path, tokens, spec)
    if mpp is None:
        expected = " and ".join(by_folder)
        raise InputError(path, "resolution unknown", f"Put the files into folders named {expected} (microns per pixel)")
    meta = {"encoder": spec.preprocessor.encoder, "mpp": mpp}
    return _bag(path, torch.as_tensor(np.asarray(tokens)), coords, meta, spec)


def _bag(path: Path, tokens: Any, coords: Any, meta: Mapping[str, Any], spec: ModelSpec) -> Bag:
    """Check the tokens of a file against what the model was trained on."""
    prepared = spec.preprocessor
    if meta["encoder"] != prepared.encoder:
        raise InputError(path, f"features of encoder {meta['encoder']}", f"The model needs {prepared.encoder}")
    _check_width(path, tokens, spec)
    expected = dict(zip(prepared.mpps, prepared.tile_um, strict=True))
    mpp = next((mpp for mpp in expected if abs(mpp - float(meta["mpp"])) < 1e-6), None)
    if mpp is None:
        needed = " and ".join(f"{mpp:g}" for mpp in expected)
        raise InputError(path, f"features at {float(meta['mpp']):g} microns per pixel", f"The model needs {needed}")
    tile_um = float(meta.get("tile_um") or expected[mpp])
    if abs(tile_um - expected[mpp]) > 0.01 * expected[mpp]:
        raise InputError(path, f"tiles of {tile_um:g} microns", f"The model needs {expected[mpp]:g}")
    coords_um = None if coords is None else torch.as_tensor(coords, dtype=torch.float32)
    index = torch.zeros(len(tokens), dtype=torch.long)
    return _nonempty(path, Bag(tokens, coords_um, index, Mpp(mpp), Microns(tile_um), prepared.encoder))


def _check_width(path: Path, tokens: Any, spec: ModelSpec) -> None:
    prepared, shape = spec.preprocessor, tuple(tokens.shape)
    width = len(prepared.tokens.mean)
    if len(shape) != 2 or shape[1] != width:
        what = f"features of {shape[1]} numbers a tile" if len(shape) == 2 else f"features of shape {shape}"
        raise InputError(path, what, f"The model needs {width} ({prepared.encoder})")


def _nonempty(path: Path, bag: Bag) -> Bag:
    at = f"at {bag.mpp:g} microns per pixel"
    if not len(bag):
        raise InputError(path, f"no tissue tile {at}", "Is it a stained tissue slide")
    if not is_finite(bag.tokens.numpy()):
        raise InputError(path, f"features {at} with NaN or infinite values", "Extract again")
    return bag


def _one_line(path: Path, error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if path.name in text else f"{path}: {type(error).__name__}: {text}"
