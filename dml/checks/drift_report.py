"""Drift between cohorts and sites, written down: tables for machines, one page for people."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from dml.checks.bag_summaries import by_patient, read_sketches
from dml.checks.drift import LARGE, Drift, apart, compare, difference, share_drifted, shared_genes
from dml.cohorts.stores import Stores, read_stores
from dml.core.errors import InputError
from dml.core.files import atomic, read_parquet

MOST = 50
"""Genes of a site that are written down, the largest differences."""


@dataclass(frozen=True, slots=True)
class FeatureDrift:
    """How the mean features of patients differ at one resolution."""

    encoder: str
    mpp: float
    patients: tuple[int, int]
    drifted: float
    apart: float | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two cohorts side by side."""

    names: tuple[str, str]
    drift: Drift
    genes_apart: float | None
    features: tuple[FeatureDrift, ...]

    def page(self, most: int = 15) -> str:
        """Write the summary of one page."""
        a, b = self.names
        genes = self.drift.genes.head(most).rename(columns={"mean_a": f"mean {a}", "mean_b": f"mean {b}"})
        labels = self.drift.labels.rename(columns={"share_a": a, "share_b": b})
        numbers = self.drift.numbers.rename(columns={"a": a, "b": b})
        lines = [f"{b} compared with {a}", *(f"  note: {note}" for note in self.drift.notes), ""]
        lines += ["Patients", *_table(numbers), "", "Labels", *_table(labels), ""]
        lines += [_genes(self.drift, self.genes_apart), *_table(genes), "", "Features (mean of a patient's tokens)"]
        lines += [f"  {_features(each)}" for each in self.features] or ["  no encoder and resolution in common"]
        lines += [
            "",
            f"d: difference of means in pooled standard deviations, {LARGE} and more is large; ks: Kolmogorov-",
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
    stores = _stores(first), _stores(second)
    classes = {k: v for k, v in stores[0].classes.items() if list(stores[1].classes.get(k, [])) == list(v)}
    drift = compare(stores[0].patients, stores[1].patients, (stores[0].expression, stores[1].expression), classes)
    genes = apart(*shared_genes(stores[0].expression, stores[1].expression)) if len(drift.genes) else None
    return Comparison((first.name, second.name), drift, genes, _feature_drifts(first / "features", second / "features"))


def write_comparison(out: Path, comparison: Comparison) -> str:
    """Write summary.txt, genes.csv, labels.csv and numbers.csv; return the summary."""
    page = comparison.page()
    with atomic(out / "summary.txt") as temporary:
        temporary.write_text(page)
    for name in ("genes", "labels", "numbers"):
        _write_csv(out / f"{name}.csv", getattr(comparison.drift, name))
    return page


def write_drifts(path: Path, drifts: Mapping[str, Drift]) -> None:
    """Write how each site differs from all others: all labels and numbers, and the most different genes."""
    parts = [_long(site, drift) for site, drift in drifts.items()]
    columns = ["site", "kind", "name", "others", "here", "d"]
    _write_csv(path, pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns))


def _stores(folder: Path) -> Stores:
    if not (folder / "patients.parquet").exists():
        raise InputError(folder, "this cohort was not built", f"dml cohort use {folder.name}, then dvc repro cohort")
    return read_stores(folder)


def _feature_drifts(first: Path, second: Path) -> tuple[FeatureDrift, ...]:
    places = [{p.relative_to(f).as_posix() for p in f.glob("*/*") if p.is_dir()} for f in (first, second)]
    return tuple(_feature_drift(first, second, *place.split("/")) for place in sorted(places[0] & places[1]))


def _feature_drift(first: Path, second: Path, encoder: str, mpp: str) -> FeatureDrift:
    means = []
    for folder in (first, second):
        manifest = read_parquet(folder / "manifest.parquet")[0].to_pandas()
        there = [(folder / encoder / mpp / f"{slide}.parquet").exists() for slide in manifest["slide_id"]]
        good = manifest[(manifest["status"] == "ok") & np.array(there, bool)]
        means.append(by_patient(read_sketches(folder, encoder, good, float(mpp)))[1])
    share = share_drifted(difference(means[0], means[1])) if all(len(m) for m in means) else 0.0
    return FeatureDrift(encoder, float(mpp), (len(means[0]), len(means[1])), share, apart(means[0], means[1]))


def _long(site: str, drift: Drift) -> pd.DataFrame:
    genes = drift.genes.head(MOST).rename(columns={"gene": "name", "mean_a": "others", "mean_b": "here"})
    labels = drift.labels.rename(columns={"share_a": "others", "share_b": "here"})
    labels["name"] = labels["label"] + " = " + labels["class"]
    numbers = drift.numbers.rename(columns={"quantity": "name", "a": "others", "b": "here"})
    kinds = {"gene": genes, "label": labels, "number": numbers}
    parts = [table.assign(site=site, kind=kind).reindex(columns=["site", "kind", "name", "others", "here", "d"])
             for kind, table in kinds.items() if len(table)]  # fmt: skip
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def _write_csv(path: Path, table: pd.DataFrame) -> None:
    with atomic(path) as temporary:
        table.to_csv(temporary, index=False, float_format="%.6g", lineterminator="\n")


def _table(table: pd.DataFrame) -> list[str]:
    if table.empty:
        return ["  nothing in common"]
    return [f"  {line}" for line in table.to_string(index=False, float_format="{:.3g}".format).splitlines()]


def _genes(drift: Drift, apart: float | None) -> str:
    total = len(drift.genes)
    auc = "" if apart is None else f"; AUC {apart:.2f}"
    return f"Genes: {drift.drifted:.0%} of {total} differ by {LARGE} deviations or more{auc}. The most different:"


def _features(found: FeatureDrift) -> str:
    auc = "too few to tell" if found.apart is None else f"AUC {found.apart:.2f}"
    sizes = f"{found.patients[0]} and {found.patients[1]} patients"
    return (
        f"{found.encoder} at {found.mpp:g} microns per pixel, {sizes}: {found.drifted:.0%} of dimensions differ; {auc}"
    )
