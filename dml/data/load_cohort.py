"""Read a cohort's Parquet stores into patients; nothing is fitted here."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dml.core.files import read_json, read_parquet
from dml.core.types import Case, Cohort, GeneGroups, Mpp, MultiScaleBags, Survival
from dml.data.feature_store import read_bags
from dml.data.token_memory import shelved

COVARIATES = ("age", "sex")


def read_cohort(folder: Path, encoder: str, mpps: Sequence[float]) -> Cohort:
    """Read the patients of ``data/<cohort>`` with the features of one encoder.

    Parameters
    ----------
    folder : Path
        The cohort's stores: patients, expression, gene_groups, features.
    encoder : str
        Whose features to read.
    mpps : sequence of float
        Resolutions in microns per pixel.

    Raises
    ------
    InputError
        If a store is missing or not what it must be.
    """
    table, metadata = read_parquet(folder / "patients.parquet")
    genes, unit, expression = _expression(folder)
    groups = read_json(folder / "gene_groups.json")
    classes = {label: tuple(values) for label, values in metadata["classes"].items()}
    pyramids = _pyramids(folder / "features", encoder, mpps)
    cases = tuple(
        _case(row, tuple(classes), pyramids.get(row["patient_id"], {}), expression.get(row["patient_id"]))
        for row in table.to_pandas().to_dict("records")
    )
    named = GeneGroups(tuple(groups["tumor"]), tuple(groups["tme"]), groups.get("provenance", ""))
    return Cohort(metadata.get("cohort", folder.name), cases, genes, unit, named, classes)


def read_clinical(folder: Path) -> Cohort:
    """Read outcomes, labels and covariates of the patients of ``data/<cohort>``, without tokens and transcriptomes.

    Raises
    ------
    InputError
        If patients.parquet is missing or not Parquet.
    """
    table, metadata = read_parquet(folder / "patients.parquet")
    classes = {label: tuple(values) for label, values in metadata["classes"].items()}
    cases = tuple(_case(row, tuple(classes), {}, None) for row in table.to_pandas().to_dict("records"))
    return Cohort(metadata.get("cohort", folder.name), cases, (), "absent", GeneGroups((), ()), classes)


def _expression(folder: Path) -> tuple[tuple[str, ...], str, dict[str, np.ndarray]]:
    table, metadata = read_parquet(folder / "expression.parquet")
    values = table["expression"].combine_chunks()
    rows = values.flatten().to_numpy(zero_copy_only=False).reshape(len(table), len(metadata["genes"]))
    return tuple(metadata["genes"]), metadata["unit"], dict(zip(table["patient_id"].to_pylist(), rows, strict=True))


def _pyramids(folder: Path, encoder: str, mpps: Sequence[float]) -> dict[str, MultiScaleBags]:
    manifest = read_parquet(folder / "manifest.parquet")[0].to_pandas()
    good = manifest[(manifest["status"] == "ok") & manifest["patient_id"].notna()]
    slides: dict[str, list[str]] = {
        str(patient): sorted(set(rows["slide_id"])) for patient, rows in good.groupby("patient_id")
    }
    resolutions = [Mpp(mpp) for mpp in mpps]
    tokens = int(good.loc[good["mpp"].isin(resolutions), "tiles"].sum())
    return shelved(((id_, read_bags(folder / encoder, of, resolutions)) for id_, of in slides.items()), tokens)


def _case(
    row: Mapping[str, Any], labels: Sequence[str], pyramid: MultiScaleBags, expression: np.ndarray | None
) -> Case:
    known = pd.notna(row["survival_days"]) and pd.notna(row["event"])
    return Case(
        patient_id=row["patient_id"],
        site=row["site"],
        bags=pyramid,
        expression=expression,
        survival=Survival(float(row["survival_days"]), bool(row["event"])) if known else None,
        labels={label: row[label] for label in labels if pd.notna(row[label])},
        covariates={name: float(row[name]) for name in COVARIATES if pd.notna(row.get(name))},
    )
