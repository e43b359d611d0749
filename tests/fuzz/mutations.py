"""Ways to spoil a file, drawn by hypothesis: its bytes, the cells of its table, its YAML, its HDF5 objects."""

import bz2
import gzip
import io
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import yaml
from hypothesis import strategies as st

Draw = Callable[[st.SearchStrategy[Any]], Any]

CELLS = (
    *("", " ", "NA", "nan", "inf", "-inf", "1e999", "-1", "1,5", "0x10", "-999", "'", '"', '"a', "a,b", "a\tb", "a\nb"),
    *("../x", "/etc/passwd", "CON", "=1+1", "<script>", "\ufeff", "\u200b", "\u202e", "é", "e\u0301", "\ud7ff", "☃"),
    *("true", "2021-03-01", "1-Mar", "P00", "P01", "TP53", "?", "|", "[", "(", "#", "%s", "{}", "x" * 5000, "9" * 400),
)
"""Cells that trip parsers of tables."""
VALUES = (
    *(None, True, False, 0, -1, 10**30, 1.5, float("nan"), float("inf"), "", "x", "../x", "/", "(", "^(.)", "[", "\0"),
    *([], [[]], {}, [None], {"a": {}}, {1: 2}, [1, 2], "survival", "2021-03-01", "a" * 3000, "1" * 5000),
)
"""Values that trip readers of YAML and JSON."""
ARRAYS = (
    *(np.zeros(0), np.zeros((0, 4)), np.zeros((3, 0)), np.float64(1), np.full((3, 4), np.nan), np.zeros((2, 3, 4))),
    *(np.array([b"a", b"\xff"]), np.array([1, 2], np.int8), np.array([-5, 99]), np.zeros(3, np.complex128)),
    *(np.zeros(3, [("a", "f4"), ("b", "i2")]), np.array([True]), np.arange(40), np.full(9, 2**63 - 1)),
)
"""Data sets that trip readers of HDF5."""


def change_bytes(draw: Draw, content: bytes) -> bytes:
    """Flip, cut, insert, overwrite, duplicate and swap parts of a file, one to six times, more often at its ends.

    What is drawn does not depend on the content: archives hold the time, and hypothesis compares draws of equal cases.
    """
    spoiled = bytearray(content)
    for _ in range(draw(st.integers(1, 6))):
        end, nearest = len(spoiled), draw(st.sampled_from([64, 1024, 2**40]))
        at = draw(st.integers(0, 2**16)) * min(end, nearest) >> 16
        at = end - at if draw(st.booleans()) else at
        length, inserted = draw(st.sampled_from([1, 2, 4, 8, 64, 512])), draw(st.binary(min_size=1, max_size=16))
        byte = draw(st.sampled_from([0, 1, 10, 34, 44, 127, 128, 254, 255]))
        number = draw(st.sampled_from([b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", b"\0\0\0\x80"]))
        match draw(st.sampled_from(["flip", "set", "number", "cut", "insert", "duplicate", "swap", "end"])):
            case "flip":
                spoiled[at : at + 1] = bytes(each ^ (1 << byte % 8) for each in spoiled[at : at + 1])
            case "set":
                spoiled[at : at + 1] = bytes([byte])
            case "number":  # sizes and offsets that are wrong by much
                spoiled[at : at + 4] = number
            case "cut":
                del spoiled[at : at + length]
            case "insert":
                spoiled[at:at] = inserted
            case "duplicate":
                spoiled[at:at] = spoiled[at : at + length]
            case "swap":
                spoiled[at : at + 2 * length] = spoiled[at + length : at + 2 * length] + spoiled[at : at + length]
            case "end":
                del spoiled[at:]
    return bytes(spoiled)


def change_cells(draw: Draw, frame: pd.DataFrame) -> pd.DataFrame:
    """Spoil cells, headers, rows and columns of a table, one to four times."""
    for _ in range(draw(st.integers(1, 4))):
        if 0 not in frame.shape:
            frame = _change_table(draw, frame.astype(object).rename(columns=str))
            frame.columns = [str(name) for name in frame.columns]
    return frame


def _change_table(draw: Draw, frame: pd.DataFrame) -> pd.DataFrame:
    row, column = (draw(st.integers(0, n - 1)) for n in frame.shape)
    value, name = draw(st.sampled_from(CELLS)), frame.columns[column]
    cell = np.zeros(frame.shape, bool)
    cell[row, column] = True
    changes: list[Callable[[], pd.DataFrame]] = [
        lambda: frame.mask(cell, value),
        lambda: frame.assign(**{name: value}),
        lambda: frame.set_axis([value if i == column else n for i, n in enumerate(frame.columns)], axis=1),
        lambda: pd.concat([frame, frame.iloc[[row]]], ignore_index=True),
        lambda: pd.concat([frame, frame.iloc[:, [column]]], axis=1),
        lambda: frame.drop(columns=name),
        lambda: frame.iloc[:row],
        lambda: frame.T.reset_index(),
        lambda: frame.set_axis([*frame.columns[1:], frame.columns[0]], axis=1),
    ]
    return draw(st.sampled_from(changes))()


def change_tree(draw: Draw, content: Any) -> Any:
    """Spoil plain data: values are replaced, keys renamed, dropped and added, lists made longer, one to three times."""
    for _ in range(draw(st.integers(1, 3))):
        content = _change_node(draw, content, 0)
    return content


def _change_node(draw: Draw, node: Any, depth: int) -> Any:
    if not isinstance(node, dict | list) or not node or (depth and draw(st.integers(0, 3)) == 0):
        return draw(st.sampled_from(VALUES))
    keys = list(node) if isinstance(node, dict) else list(range(len(node)))
    key = draw(st.sampled_from(keys))
    changed: Any = dict(node) if isinstance(node, dict) else list(node)
    match draw(st.sampled_from(["into", "into", "into", "drop", "name", "add"])):
        case "into":
            changed[key] = _change_node(draw, node[key], depth + 1)
        case "drop":
            del changed[key]
        case "name" if isinstance(changed, dict):
            changed[draw(st.sampled_from(["x", "", 1, None, "name", "file"]))] = changed.pop(key)
        case _ if isinstance(changed, dict):
            changed[draw(st.sampled_from(["x", "params", "labels"]))] = draw(st.sampled_from(VALUES))
        case _:
            changed.append(changed[key])
    return changed


def to_yaml(content: Any) -> bytes:
    return yaml.safe_dump(content, allow_unicode=True).encode("utf-8", "replace")


def change_hdf5(draw: Draw, content: bytes) -> bytes:
    """Delete, replace and link objects of an HDF5 file, and spoil its attributes, one to three times."""
    buffer = io.BytesIO(content)
    with h5py.File(buffer, "r+") as file:
        for _ in range(draw(st.integers(1, 3))):
            names: list[str] = []
            file.visit(names.append)
            if not names:
                break
            _change_object(draw, file, draw(st.sampled_from(sorted(names))))
    return buffer.getvalue()


def _change_object(draw: Draw, file: Any, name: str) -> None:
    match draw(st.sampled_from(["drop", "array", "link", "away", "group", "attribute", "claim"])):
        case "attribute":
            attributes = file[name].attrs
            key = draw(st.sampled_from([*attributes, "encoding-type", "shape", "patch_size", "unit"]))
            value = draw(st.sampled_from(["", "x", -1, 0, 1e300, np.zeros(3), np.array([2**40, 2**40]), b"\xff"]))
            attributes[key] = value
            return
        case "array":
            value = draw(st.sampled_from(ARRAYS))
        case "link":
            value = h5py.SoftLink(draw(st.sampled_from(["/", "/nothing", f"/{name}"])))
        case "away":
            value = h5py.ExternalLink("/etc/passwd", "/")
        case other:
            value = other
    del file[name]
    if not isinstance(value, str):
        file[name] = value
    elif value == "group":
        file.create_group(name)
    elif value == "claim":
        file.create_dataset(name, (2**40, 8), np.float32, chunks=(64, 8))


def change_store(draw: Draw, table: pa.Table) -> pa.Table:
    """Spoil a store: a column is dropped, renamed, retyped or emptied, metadata are dropped or another's."""
    name = draw(st.sampled_from(table.column_names))
    at = table.column_names.index(name)
    metadata = dict(table.schema.metadata or {})
    columns = ["text", "numbers", "nulls", "lists"]
    match draw(st.sampled_from(["drop", "name", *columns, "rows", "bare", "other", "value"])):
        case "drop":
            return table.drop_columns([name])
        case "name":
            return table.rename_columns(["x" if column == name else column for column in table.column_names])
        case "rows":
            return table.slice(0, draw(st.sampled_from([0, 1])))
        case "bare":
            return table.replace_schema_metadata(None)
        case "other":
            metadata[b"dml"] = draw(st.sampled_from([b"", b"[]", b"null", b"{}", b"\xff", b"{", b'"x"', b"1e999"]))
            return table.replace_schema_metadata(metadata)
        case "value":
            changed = change_tree(draw, json.loads(metadata.get(b"dml", b"{}")))
            metadata[b"dml"] = json.dumps(changed).encode()
            return table.replace_schema_metadata(metadata)
        case kind:
            values = {
                "text": pa.array(["x"] * len(table)),
                "numbers": pa.array(np.arange(len(table)) * 1e40),
                "nulls": pa.nulls(len(table)),
                "lists": pa.array([[1.0, None]] * len(table)),
            }
            return table.set_column(at, name, values[kind])


def write_table(draw: Draw, frame: pd.DataFrame, path: Path) -> None:
    """Write a table in the format of the suffix, possibly with odd line ends and encodings."""
    if path.suffix == ".parquet":
        frame.astype(str).loc[:, ~frame.columns.duplicated()].to_parquet(path)
    elif path.suffix == ".xlsx":
        kept = frame.map(lambda cell: "".join(c for c in cell if c.isprintable()) if isinstance(cell, str) else cell)
        kept.iloc[:200].to_excel(path, index=False)
    else:
        text = frame.to_csv(index=False, sep="\t" if ".tsv" in path.name else ",", errors="replace")
        text = text.replace("\n", draw(st.sampled_from(["\n", "\n", "\r\n", "\r"])))
        content = text.encode(draw(st.sampled_from(["utf-8", "utf-8", "utf-8-sig", "utf-16"])), "replace")
        path.write_bytes(pack(content, path.suffix))


def pack(content: bytes, suffix: str) -> bytes:
    packers: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".xz": lzma.compress, ".bz2": bz2.compress}
    return packers[suffix](content) if suffix in packers else content
