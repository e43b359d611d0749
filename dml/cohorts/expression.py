"""One expression vector a patient, genes by symbol: any orientation, any order of rows and columns, one result."""

import logging
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from dml.cohorts.description import CohortDescription
from dml.cohorts.provenance import Ledger, Record, Status
from dml.cohorts.store_files import ExpressionMatrix
from dml.core.errors import InputError, listed
from dml.genes.expression_units import LINEAR, check_unit, convert, refuse_impossible, stored_unit, with_offset_one
from dml.genes.gene_symbols import find_dates, is_par_y, rename, strip_par_y
from dml.readers.expression.expression_format import ExpressionFormat, RawMatrix
from dml.readers.samples import Sample, choose_sample, describe_type, is_normal, same_type

logger = logging.getLogger(__name__)

MAX_DIFFERENCE = 1e-6
"""Largest difference between rows of one patient that count as identical."""


def build_expression(description: CohortDescription, ledger: Ledger | None = None) -> ExpressionMatrix:
    """Read, align and convert the cohort's matrix; an empty one (unit ``absent``) where none is described.

    Duplicated symbols are merged before any conversion: linear units are summed (transcripts of one gene, and the
    copies of a pseudo-autosomal gene on X and Y, add up), logarithms are summed before the logarithm, z-scores are
    averaged. Genes that are not to be stored (`gene_types` of GDC) are left out after it. Which sample of a patient
    counts is the rule of `samples`; the ledger gets each.

    Raises
    ------
    InputError
        If the file is wrong, a value is not a finite number or impossible in its unit (gene and patient are named), the
        values contradict the unit, gene names became dates, or rows of a patient differ.
    ConfigError
        If the conversion asked for has no meaning.
    """
    spec = description.expression
    if spec is None:
        return ExpressionMatrix((), (), np.zeros((0, 0), np.float32), "absent", "")
    ledger = Ledger() if ledger is None else ledger
    read = _select_samples(spec.read(description.raw_folder), description.exclude, ledger)
    frame, left_out = _name_genes(read, spec)
    refuse_impossible(frame, spec.unit, read.where, spec.log_offset)
    table = _merge_patients(_merge_genes(frame, spec.unit, spec.log_offset), read, spec, ledger)
    table = _finite(table, spec, read.where)
    check_unit(table.to_numpy(np.float64), spec.unit, read.where, spec.log_offset, spec.unit_confirmed)
    unit = spec.convert or stored_unit(spec.unit)
    values = convert(with_offset_one(table.to_numpy(np.float64), spec.log_offset), spec.unit, unit)
    stored = ~table.columns.isin(left_out)
    source = spec.source or f"{read.where.name}, {spec.unit}"
    genes = tuple(table.columns[stored])
    return ExpressionMatrix(tuple(table.index), genes, values[:, stored].astype(np.float32), unit, source)


def _select_samples(read: RawMatrix, exclude: Collection[str], ledger: Ledger) -> RawMatrix:
    """Leave out normal tissue and excluded patients; tell the ledger of every sample that is not used."""
    rows = read.samples or [Sample(str(patient), str(patient)) for patient in read.frame.index]
    reasons = [
        f"{describe_type(s.name, s.kind)}: not of the tumor"
        if not s.kind and is_normal(s.name)
        else ("listed under exclude" if s.patient_id in exclude else "")
        for s in rows
    ]
    selected = [i for i, reason in enumerate(reasons) if not reason]
    excluded = [*read.excluded, *((rows[i], reason) for i, reason in enumerate(reasons) if reason)]
    ledger.add(_record(sample, "left out", reason) for sample, reason in excluded)
    if excluded:
        counts = ", ".join(f"{n} x {reason}" for reason, n in Counter(reason for _, reason in excluded).items())
        total = len(rows) + len(read.excluded)
        logger.warning("%s: %d of %d samples are left out: %s", read.where, len(excluded), total, counts)
    samples = [rows[i] for i in selected]
    return RawMatrix(read.frame.iloc[selected], read.where, samples, excluded, read.left_out)


def _record(sample: Sample, status: Status, rule: str) -> Record:
    return Record(sample.patient_id, "expression", status, sample.kind, sample.file, sample.name, sample.row, rule)


def _name_genes(read: RawMatrix, spec: ExpressionFormat) -> tuple[pd.DataFrame, frozenset[str]]:
    """Return the matrix under the names to store, and the names of genes not to be stored.

    Pseudo-autosomal rows of Y get the name of their gene (of z-scores they are dropped: a mean with zeros is no
    z-score); then approved symbols where they are wanted.
    """
    written = [str(name) for name in read.frame.columns]
    names = [strip_par_y(name) for name in written]
    if spec.symbols == "approved":
        renaming = rename(names)
        logger.info("%d genes: %s", len(names), renaming.format_line())
        names = renaming.names
    by_name = list(zip(read.frame.columns, names, strict=True))
    dropped = {new for old, new in by_name if old in read.left_out}
    stored = {new for old, new in by_name if old not in read.left_out}
    only_y = {new for new, old in zip(names, written, strict=True) if is_par_y(old)} - {
        new for new, old in zip(names, written, strict=True) if not is_par_y(old)
    }
    keep = [
        not (spec.unit == "zscore" and is_par_y(old) and new not in only_y)
        for old, new in zip(written, names, strict=True)
    ]
    if dates := find_dates(names):
        if spec.date_symbols == "fail":
            problem = f"{len(dates)} gene names are dates, as Excel makes them: {listed(dates)}"
            remedy = "Fetch the table again, not through Excel, or leave the genes out: expression.date_symbols: drop"
            raise InputError(read.where, problem, remedy)
        logger.warning("%s: %d genes whose names became dates are left out: %s", read.where, len(dates), listed(dates))
        keep = [keeps and name not in dates for keeps, name in zip(keep, names, strict=True)]
    return read.frame.set_axis(names, axis=1).loc[:, keep], frozenset(dropped - stored)


def _merge_genes(matrix: pd.DataFrame, unit: str, offset: float) -> pd.DataFrame:
    """Merge columns of one symbol and sort; NaN in a duplicate stays NaN, a gene with one column stays as it is."""
    if matrix.columns.is_unique:
        return matrix.sort_index(axis=1)
    names, codes = np.unique(matrix.columns.to_numpy(str), return_inverse=True)
    values, counts = matrix.to_numpy(np.float64), np.bincount(codes)
    several = counts[codes] > 1
    logger.info("%d symbols occur several times: %s", (counts > 1).sum(), listed(list(names[counts > 1])))
    parts = values[:, several]
    if unit.startswith("log2_"):
        parts = np.maximum(np.exp2(parts) - offset, 0.0)
    sums = np.zeros((len(matrix), len(names)))
    np.add.at(sums.T, codes[several], parts.T)
    if unit.startswith("log2_"):
        sums = np.log2(sums + offset)
    elif unit not in LINEAR:
        sums /= counts
    sums[:, codes[~several]] = values[:, ~several]
    return pd.DataFrame(sums, index=matrix.index, columns=names)


def _merge_patients(matrix: pd.DataFrame, read: RawMatrix, spec: ExpressionFormat, ledger: Ledger) -> pd.DataFrame:
    """Return one row a patient, sorted, from rows of samples in the order of `read.samples`."""
    rows: dict[str, list[int]] = {}
    for i, sample in enumerate(read.samples):
        rows.setdefault(sample.patient_id, []).append(i)
    if spec.repeats == "identical" and not matrix.index.is_unique:
        _refuse_different_rows(matrix, read.where, read.samples)
    chosen, vectors, values = sorted(rows), [], matrix.to_numpy(np.float64)
    for patient in chosen:
        samples = [read.samples[i] for i in rows[patient]]
        first, rule = choose_sample(samples)
        used = [first]
        if spec.repeats == "identical" and len(samples) > 1:
            rule = f"{len(samples)} rows of the patient agree"
        if spec.repeats == "mean" and len(samples) > 1:
            used = same_type(samples)
            rule = f"mean of {len(used)} samples ({describe_type(first.name, first.kind)})"
        indices = [rows[patient][samples.index(sample)] for sample in used]
        vectors.append(values[indices[0]] if len(used) == 1 else matrix.iloc[indices].mean().to_numpy())
        ledger.add(_record(sample, "used", rule) for sample in used)
        if spec.repeats != "identical":
            others = [sample for sample in samples if sample not in used]
            ledger.add(_record(sample, "left out", f"another sample counts: {rule}") for sample in others)
    return pd.DataFrame(
        np.stack(vectors) if vectors else np.zeros((0, matrix.shape[1])), index=chosen, columns=matrix.columns
    )


def _refuse_different_rows(matrix: pd.DataFrame, path: Path, samples: Sequence[Sample]) -> None:
    grouped = matrix.groupby(level=0, sort=True)
    differ = ~((grouped.max() - grouped.min()).fillna(0.0) <= MAX_DIFFERENCE).all(axis=1)
    if differ.any():
        patients = list(differ.index[differ])
        names = listed([s.name for s in samples if s.patient_id == patients[0]])
        problem = f"several rows of the same patient differ: {listed(patients)} (of {patients[0]}: {names})"
        remedy = "Set expression.repeats to first (primary tumor first) or mean, or narrow expression.id's pattern"
        raise InputError(path, problem, remedy)


def _finite(matrix: pd.DataFrame, spec: ExpressionFormat, path: Path) -> pd.DataFrame:
    """Refuse values that are missing or infinite, or leave their genes out where the description says so."""
    good = np.isfinite(matrix.to_numpy(np.float64))
    if good.all():
        return matrix
    if spec.missing == "drop_genes":
        whole = good.all(axis=0)
        lost = listed(list(matrix.columns[~whole]))
        logger.warning("%s: %d genes with missing values are left out: %s", path, (~whole).sum(), lost)
        complete: pd.DataFrame = matrix.loc[:, whole]
        return complete
    cells = [f"gene {matrix.columns[g]} of patient {matrix.index[p]}" for p, g in np.argwhere(~good)[:3]]
    problem = f"{(~good).sum()} missing or infinite values: {', '.join(cells)}"
    raise InputError(path, problem, "Fill them in, delete the genes or patients, or set expression.missing: drop_genes")
