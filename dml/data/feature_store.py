"""The feature store: one Parquet file a slide and resolution, laid out so that reading a bag is one copy of memory.

A vector is fixed-size binary (float16, little endian); no compression, dictionary or statistics; row groups of 250
tiles. List columns and Parquet's defaults are 10 to 40 times slower to read.

Shape legend: n tiles, d width of a token.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from dml.core.errors import InputError, refuse_unreadable
from dml.core.files import inside, metadata_of, write_parquet
from dml.core.types import Bag, Microns, Mpp, MultiScaleBags

_LAYOUT: dict[str, Any] = {
    "compression": "none",
    "use_dictionary": False,
    "write_statistics": False,
    "row_group_size": 250,
}
_AGAIN = "Delete it and extract or import this slide again"
_FOREIGN = "Describe it under `features` of a cohort, to be imported (embed.source: import)"
IMPORTED = "imported"
"""Weights of features that were extracted elsewhere: unknown."""
MAX_COORDINATE_UM = 1e6
"""Microns from the corner of a slide beyond which no tile lies: a metre."""
_EXPONENT = np.int16(0x7C00)  # all ones in float16: infinite or NaN

Coordinates = Float[Tensor, "n 2"]


def write_bag(
    path: Path,
    tokens: NDArray[np.floating[Any]],
    coords_um: NDArray[np.floating[Any]] | None,
    meta: Mapping[str, Any],
    source: Path | None = None,
) -> None:
    """Write the tokens of one slide at one resolution, atomically.

    Parameters
    ----------
    path : Path
        ``<features>/<encoder>/<mpp>/<slide_id>.parquet``.
    tokens : float [n d]
        Stored as float16.
    coords_um : float [n 2] or None
        Tile centres in microns from the slide's top-left corner, stored as float32.
    meta : mapping
        encoder, mpp, tile_um, slide_id, patient_id, weights, fingerprint, stain_normalisation if there is one; `width`
        is added.
    source : Path, optional
        The file that the tokens are from, for messages; default `path`.

    Raises
    ------
    InputError
        If there is no token, a value is not finite in float16, or the shapes disagree.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder) / "slide-1.parquet"
    ...     write_bag(path, np.ones((2, 4)), None, {"encoder": "uni", "mpp": 0.5, "tile_um": 128.0})
    ...     tokens, _, meta = read_features(path, encoder="uni")
    >>> tuple(tokens.shape), meta["width"]
    ((2, 4), 4)
    """
    half = _to_half(source or path, np.asarray(tokens))
    vector = pa.FixedSizeBinaryArray.from_buffers(pa.binary(2 * half.shape[1]), len(half), [None, pa.py_buffer(half)])
    columns: dict[str, Any] = {"vector": vector}
    if coords_um is not None:
        x, y = _check_coordinates(source or path, np.asarray(coords_um), len(half)).T
        columns = {"x_um": np.ascontiguousarray(x), "y_um": np.ascontiguousarray(y), **columns}
    write_parquet(path, pa.table(columns), {**meta, "width": int(half.shape[1])}, **_LAYOUT)


def _to_half(source: Path, tokens: NDArray[Any]) -> NDArray[np.float16]:
    if tokens.ndim != 2 or 0 in tokens.shape:
        raise InputError(source, f"features of shape {tokens.shape}, [tiles, width] is expected", "Extract them again")
    if tokens.dtype.kind != "f":
        raise InputError(source, f"features of type {tokens.dtype}; floats are expected", "Extract them again")
    with np.errstate(over="ignore"):
        half = np.ascontiguousarray(tokens, dtype="<f2")
    if not is_finite(half):
        bad = int((~np.isfinite(half)).any(axis=1).sum())
        problem = f"{bad} of {len(half)} tiles have NaN or infinite features"
        raise InputError(source, problem, "Extract them again (float16 holds values up to 65,504)")
    return half


def _check_coordinates(source: Path, coords_um: NDArray[Any], tiles: int) -> NDArray[np.float32]:
    if coords_um.shape != (tiles, 2):
        problem = f"{tiles} feature vectors, but coordinates of shape {coords_um.shape}"
        raise InputError(source, problem, "Both must describe the same tiles")
    if not (np.abs(coords_um) < MAX_COORDINATE_UM).all():
        raise InputError(source, "coordinates that are not on any slide (NaN, or metres away)", "Extract them again")
    return coords_um.astype(np.float32)


def read_features(
    path: Path, encoder: str | None = None, width: int | None = None, finite: bool = False
) -> tuple[Float[Tensor, "n d"], Coordinates | None, dict[str, Any]]:
    """Read the tokens of one slide at one resolution.

    Parameters
    ----------
    path : Path
        A file of the store.
    encoder, width : optional
        What they must be.
    finite : bool
        Whether to look for NaN and infinite values (0.7 ms for 2,500 x 1,024).

    Returns
    -------
    tokens : float16 [n d]
        Shares the memory Parquet was read into.
    coords_um : float32 [n 2] or None
        Tile centres.
    meta : dict
        As written.

    Raises
    ------
    InputError
        If the file is missing, damaged, empty, not of this store, or of another encoder or width.
    """
    table, meta = _read(path)
    tokens = _tokens(path, table["vector"])
    problem = _problem(tokens, meta, encoder, width, finite)
    if problem:
        raise InputError(path, problem, _AGAIN)
    has_coords = {"x_um", "y_um"} <= set(table.column_names) and not table["x_um"].null_count
    with refuse_unreadable(path, _AGAIN):
        return tokens, _coordinates(table) if has_coords else None, meta


def read_bags(folder: Path, slide_ids: Sequence[str], mpps: Sequence[float]) -> MultiScaleBags:
    """Read the slides of one patient and concatenate them at each resolution.

    Parameters
    ----------
    folder : Path
        ``data/<cohort>/features/<encoder>``; the folder's name is the encoder all files must be of.
    slide_ids : sequence of str
        In the order of the slide index.
    mpps : sequence of float
        Resolutions in microns per pixel.

    Returns
    -------
    mapping of mpp to Bag
        Coordinates are there only if all slides have them. Empty if there are no slides.

    Raises
    ------
    InputError
        As `read_features`; also if widths or tile sizes differ among the slides.
    """
    if not slide_ids:
        return {}
    return {Mpp(mpp): _read_bag(folder, slide_ids, Mpp(mpp)) for mpp in mpps}


def bag_path(folder: Path, encoder: str, mpp: float, slide_id: str) -> Path:
    """Return where the features of a slide are below ``data/<cohort>/features``."""
    return inside(folder, encoder, f"{mpp:g}", f"{slide_id}.parquet")


def concatenate_bags(bags: Sequence[Bag]) -> Bag:
    """Concatenate the slides of one patient at one resolution; coordinates remain only if all slides have them."""
    first = bags[0]
    tokens = first.tokens if len(bags) == 1 else torch.cat([bag.tokens for bag in bags])
    coords = [bag.coords_um for bag in bags if bag.coords_um is not None]
    slide = torch.repeat_interleave(torch.arange(len(bags)), torch.tensor([len(bag) for bag in bags]))
    coords_um = torch.cat(coords) if len(coords) == len(bags) else None
    return Bag(tokens, coords_um, slide, first.mpp, first.tile_um, first.encoder)


def _read_bag(folder: Path, slide_ids: Sequence[str], mpp: Mpp) -> Bag:
    bags: list[Bag] = []
    for slide_id in slide_ids:
        path = bag_path(folder.parent, folder.name, mpp, slide_id)
        width, expected_um = (bags[0].tokens.shape[1], bags[0].tile_um) if bags else (None, None)
        tokens, coords, meta = read_features(path, folder.name, width, finite=True)
        with refuse_unreadable(path, _AGAIN):
            tile_um = float(meta["tile_um"])
        if expected_um is not None and abs(tile_um - expected_um) > 1e-3 * expected_um:
            raise InputError(path, f"tiles of {tile_um:g} microns, others have {expected_um:g}", _AGAIN)
        bags.append(Bag(tokens, coords, torch.zeros(len(tokens), dtype=torch.long), mpp, Microns(tile_um), folder.name))
    return concatenate_bags(bags)


def _read(path: Path) -> tuple[pa.Table, dict[str, Any]]:
    if not path.is_file():
        raise InputError(path, "the file does not exist", "Run the stage that writes it: dvc repro extract_features")
    try:
        with pq.ParquetFile(path, memory_map=True) as file:
            table = file.read(use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise InputError(path, f"not a readable Parquet file ({error})", _AGAIN) from None
    missing = "vector" not in table.column_names or b"dml" not in (table.schema.metadata or {})
    if missing or not pa.types.is_fixed_size_binary(table.schema.field("vector").type):
        raise InputError(path, "not a file of this feature store", _FOREIGN)
    return table, metadata_of(path, table)


def _tokens(path: Path, column: pa.ChunkedArray) -> Float[Tensor, "n d"]:
    if not len(column):
        raise InputError(path, "an empty bag, no tile in it", _AGAIN)
    if column.null_count:
        raise InputError(path, f"{column.null_count} tiles without features", _AGAIN)
    chunk = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    width = column.type.byte_width // 2
    values = torch.frombuffer(chunk.buffers()[1], dtype=torch.float16, offset=chunk.offset * width * 2)
    return values[: len(column) * width].view(len(column), width)


def _problem(tokens: Tensor, meta: Mapping[str, Any], encoder: str | None, width: int | None, finite: bool) -> str:
    if encoder is not None and meta.get("encoder") != encoder:
        return f"features of encoder {meta.get('encoder')}, not {encoder}"
    if width is not None and tokens.shape[1] != width:
        return f"features of width {tokens.shape[1]}, not {width}"
    if finite and not is_finite(tokens.numpy()):
        return "NaN or infinite values in features"
    return ""


def is_finite(values: NDArray[Any]) -> bool:
    """Whether no number is NaN or infinite; of float16 by its bits, ten times as fast as NumPy's `isfinite`."""
    if values.dtype == np.float16:
        return not bool(((values.view(np.int16) & _EXPONENT) == _EXPONENT).any())
    return bool(np.isfinite(values).all())


def _coordinates(table: pa.Table) -> Coordinates:
    x, y = (table[name].to_numpy().astype(np.float32, copy=False) for name in ("x_um", "y_um"))
    return torch.from_numpy(np.stack([x, y], axis=1))
