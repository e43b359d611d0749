"""Gene sets as people publish them: one set a column, long, GMT, one gene a line, and the ESTIMATE spreadsheet."""

import re
import warnings
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from dml.core.errors import InputError, listed, refuse_unreadable
from dml.readers.archives import read_text
from dml.readers.raw_files import GeneSets
from dml.readers.table_files import column, read_table

Sets = dict[str, list[str]]


def read_gene_sets(path: Path, spec: GeneSets) -> Sets:
    """Return set name -> symbols, restricted to the selected sets.

    Raises
    ------
    InputError
        If the file is missing or not of its kind, or a selected set is not in it (the message lists those that are).
    """
    if not path.exists():
        raise InputError(path, "the file does not exist", "Put it there (dml cohort import) or correct gene_groups")
    sets = {name: [g.strip() for g in genes if g.strip()] for name, genes in _READERS[spec.kind](path, spec).items()}
    absent = [name for name in spec.select if name not in sets]
    if absent:
        raise InputError(path, f"no set {listed(absent)}", f"It has {listed(list(sets), 60)}; correct `select`")
    chosen = {name: sets[name] for name in spec.select or sets}
    if not any(chosen.values()):
        raise InputError(path, "no genes in it", f"Is it really of kind {spec.kind}?")
    return chosen


def _columns(path: Path, spec: GeneSets) -> Sets:
    frame = read_table(path)
    return {
        str(name): list(column(frame, path, name).dropna())
        for name in frame.columns
        if not str(name).startswith("Unnamed:")
    }


def _long(path: Path, spec: GeneSets) -> Sets:
    frame = read_table(path)
    genes = column(frame, path, spec.gene_column).dropna()
    groups = column(frame, path, spec.set_column)[genes.index].fillna("")
    return {str(name): list(rows) for name, rows in genes.groupby(groups, sort=False)}


def _gmt(path: Path, spec: GeneSets) -> Sets:
    rows = [line.split("\t") for line in read_text(path).splitlines() if line.strip()]
    return {row[0]: row[2:] for row in rows}


def _lines(path: Path, spec: GeneSets) -> Sets:
    return {path.stem: [line.split("#")[0] for line in read_text(path).splitlines()]}


def _estimate(path: Path, spec: GeneSets) -> Sets:
    """Rows `name, description, gene 1, gene 2, ...` of the first sheet; rows above the header `Set` are titles."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Unknown extension", UserWarning)  # formatting only, no data
        with refuse_unreadable(path, "Is it an Excel workbook? Fetch it again"):
            sheet = pd.read_excel(path, sheet_name=0, header=None, dtype=object, engine="openpyxl")
    named = sheet[sheet[0].notna() & sheet[2].map(lambda cell: isinstance(cell, str))] if 2 in sheet else sheet[:0]
    return {
        re.sub(r"\s+", " ", str(row.iloc[0])): [str(g) for g in row.iloc[2:].dropna()] for _, row in named.iterrows()
    }


_READERS: dict[str, Callable[[Path, GeneSets], Sets]] = {
    "columns": _columns,
    "long": _long,
    "gmt": _gmt,
    "lines": _lines,
    "estimate": _estimate,
}
