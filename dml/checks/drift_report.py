"""Reports of drift between cohorts and sites: tables for machines, one page for people."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from dml.checks.bag_summaries import patient_means, read_bag_summaries
from dml.checks.drift import LARGE_D, Drift, classifier_auc, compare, difference, share_drifted, shared_genes
from dml.cohorts.stores import CohortTables, read_cohort_tables
from dml.core.errors import InputError
from dml.core.files import atomic, read_parquet, write_csv

MAX_GENES_PER_SITE = 50
"""Genes of a site that are written to drift.csv, the largest differences."""


@dataclass(frozen=True, slots=True)
class FeatureDrift:
    """How the mean features of patients differ at one resolution."""

    encoder: str
    mpp: float
    patients: tuple[int, int]
    drifted: float
    auc: float | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two cohorts side by side."""

    names: tuple[str, str]
    drift: Drift
    genes_auc: float | None
    features: tuple[FeatureDrift, ...]

    def format_page(self, most: int = 15) -> str:
        """Return the summary of one page."""
        a, b = self.names
        genes = self.drift.genes.head(most).rename(columns={"mean_a": f"mean {a}", "mean_b": f"mean {b}"})
        labels = self.drift.labels.rename(columns={"share_a": a, "share_b": b})
        numbers = self.drift.numbers.rename(columns={"a": a, "b": b})
        lines = [f"{b} compared with {a}", *(f"  note: {note}" for note in self.drift.notes), ""]
        lines += ["Patients", *_format_table(numbers), "", "Labels", *_format_table(labels), ""]
        lines += [_format_genes(self.drift, self.genes_auc), *_format_table(genes)]
        lines += ["", "Features (mean of a patient's tokens)"]
        lines += [f"  {_format_features(each)}" for each in self.features] or ["  no encoder and resolution in common"]
        lines += [
            "",
            f"d: difference of means in pooled standard deviations, {LARGE_D} and more is large; ks: Kolmogorov-",
        ]
        lines += ["Smirnov statistic; AUC: how well a classifier tells the cohorts apart, 0.5 = not at all."]
        return "\n".join(lines) + "\n"


def compare_cohorts(first: Path, second: Path) -> Comparison:
    """Compare two cohorts by their stores (``data/<cohort>``).

    Raises
    ------
    InputError
        If one of them was not built.
    """
    a, b = _read(first), _read(second)
    classes = {k: v for k, v in a.classes.items() if k in b.classes and list(b.classes[k]) == list(v)}
    drift = compare(a.patients, b.patients, (a.expression, b.expression), classes)
    genes = classifier_auc(*shared_genes(a.expression, b.expression)) if len(drift.genes) else None
    return Comparison((first.name, second.name), drift, genes, _feature_drifts(first / "features", second / "features"))


def write_comparison(out: Path, comparison: Comparison) -> str:
    """Write summary.txt, genes.csv, labels.csv and numbers.csv; return the summary."""
    page = comparison.format_page()
    with atomic(out / "summary.txt") as temporary:
        temporary.write_text(page)
    for name in ("genes", "labels", "numbers"):
        write_csv(out / f"{name}.csv", getattr(comparison.drift, name), "%.6g")
    return page


def write_drifts(path: Path, drifts: Mapping[str, Drift]) -> None:
    """Write how each site differs from all others: all labels and numbers, and the most different genes."""
    parts = [_to_long(site, drift) for site, drift in drifts.items()]
    columns = ["site", "kind", "name", "others", "here", "d"]
    write_csv(path, pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns), "%.6g")


def _read(folder: Path) -> CohortTables:
    if not (folder / "patients.parquet").exists():
        raise InputError(folder, "this cohort was not built", f"dml cohort use {folder.name}, then dvc repro cohort")
    return read_cohort_tables(folder)


def _feature_drifts(first: Path, second: Path) -> tuple[FeatureDrift, ...]:
    stored = [{p.relative_to(f).as_posix() for p in f.glob("*/*") if p.is_dir()} for f in (first, second)]
    return tuple(_feature_drift(first, second, *path.split("/")) for path in sorted(stored[0] & stored[1]))


def _feature_drift(first: Path, second: Path, encoder: str, mpp: str) -> FeatureDrift:
    means = []
    for folder in (first, second):
        manifest = read_parquet(folder / "manifest.parquet")[0].to_pandas()
        exists = [(folder / encoder / mpp / f"{slide}.parquet").exists() for slide in manifest["slide_id"]]
        good = manifest[(manifest["status"] == "ok") & np.array(exists, bool)]
        means.append(patient_means(read_bag_summaries(folder, encoder, good, float(mpp)))[1])
    share = share_drifted(difference(means[0], means[1])) if all(len(m) for m in means) else 0.0
    return FeatureDrift(encoder, float(mpp), (len(means[0]), len(means[1])), share, classifier_auc(means[0], means[1]))


def _to_long(site: str, drift: Drift) -> pd.DataFrame:
    genes = drift.genes.head(MAX_GENES_PER_SITE).rename(columns={"gene": "name", "mean_a": "others", "mean_b": "here"})
    labels = drift.labels.rename(columns={"share_a": "others", "share_b": "here"})
    labels["name"] = labels["label"] + " = " + labels["class"]
    numbers = drift.numbers.rename(columns={"quantity": "name", "a": "others", "b": "here"})
    kinds = {"gene": genes, "label": labels, "number": numbers}
    parts = [table.assign(site=site, kind=kind).reindex(columns=["site", "kind", "name", "others", "here", "d"])
             for kind, table in kinds.items() if len(table)]  # fmt: skip
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def _format_table(table: pd.DataFrame) -> list[str]:
    if table.empty:
        return ["  nothing in common"]
    return [f"  {line}" for line in table.to_string(index=False, float_format="{:.3g}".format).splitlines()]


def _format_genes(drift: Drift, auc: float | None) -> str:
    total = len(drift.genes)
    auc_text = "" if auc is None else f"; AUC {auc:.2f}"
    return (
        f"Genes: {drift.drifted:.0%} of {total} differ by {LARGE_D} deviations or more{auc_text}. The most different:"
    )


def _format_features(drift: FeatureDrift) -> str:
    auc = "too few to tell" if drift.auc is None else f"AUC {drift.auc:.2f}"
    sizes = f"{drift.patients[0]} and {drift.patients[1]} patients"
    return (
        f"{drift.encoder} at {drift.mpp:g} microns per pixel, {sizes}: {drift.drifted:.0%} of dimensions differ; {auc}"
    )
