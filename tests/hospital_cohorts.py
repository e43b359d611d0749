"""Stored cohorts of several hospitals: tokens and transcriptomes with a planted risk, shifted as by a scanner."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from dml.cohorts.slide_table import write_slides
from dml.cohorts.store_files import ExpressionMatrix, write_expression
from dml.core.files import write_json, write_parquet
from dml.data.feature_store import write_bag
from dml.features.manifest import write_manifest
from tests.trained_models import ENCODER, GENES, GROUPS, MPPS, WIDTH

TILES, FOLLOW_UP_DAYS = 12, 1500.0


def risks(patients: int, seed: int) -> np.ndarray:
    """The planted log hazard of each patient."""
    values: np.ndarray = np.random.default_rng(seed).normal(size=patients)
    return values


def survival(risk: np.ndarray, seed: int, ratio: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Days and deaths; `ratio` multiplies the hazard of everybody."""
    rng = np.random.default_rng([seed, 1])
    days = rng.exponential(900.0 / (ratio * np.exp(risk)))
    censored = rng.uniform(200.0, FOLLOW_UP_DAYS, len(risk))
    return np.minimum(days, censored).clip(1.0), days <= censored


def tokens(risk: float, rng: np.random.Generator, shift: float = 0.0) -> np.ndarray:
    values: np.ndarray = rng.normal(size=(TILES, WIDTH)).astype(np.float16)
    values[:, 0] += np.float16(risk)
    return values + np.float16(shift)


def write_features(folder: Path, patient: str, risk: float, rng: np.random.Generator, shift: float = 0.0) -> list[Path]:
    """Write the slide of one patient at all resolutions."""
    paths = []
    for mpp in MPPS:
        side = 256 * mpp
        coords = np.array([[(i % 4 + 0.5) * side, (i // 4 + 0.5) * side] for i in range(TILES)])
        meta = {"encoder": ENCODER, "mpp": mpp, "tile_um": side, "slide_id": f"s-{patient}", "patient_id": patient}
        paths.append(folder / f"{mpp:g}" / f"s-{patient}.parquet")
        write_bag(paths[-1], tokens(risk, rng, shift), coords, {**meta, "slide_mpp": 0.25})
    return paths


def write_cohort(
    name: str, patients: int, seed: int, shift: float = 0.0, ratio: float = 1.0, prefix: str = "p", sites: int = 1
) -> Path:
    """Write data/<name>; patients are <prefix>0, <prefix>1, ..., of sites h0, h1, ... in turn."""
    folder, rng = Path("data") / name, np.random.default_rng([seed, 2])
    ids, risk = [f"{prefix}{i}" for i in range(patients)], risks(patients, seed)
    days, event = survival(risk, seed, ratio)
    rows = []
    for patient, value in zip(ids, risk, strict=True):
        write_features(folder / "features" / ENCODER, patient, value, rng, shift)
        row = {"slide_id": f"s-{patient}", "patient_id": patient, "tiles": TILES, "status": "ok", "reason": None}
        rows += [{**row, "mpp": mpp, "fingerprint": ""} for mpp in MPPS]
    write_manifest(folder / "features/manifest.parquet", rows)
    write_slides(
        folder / "slides.parquet",
        pd.DataFrame({"slide_id": [f"s-{id_}" for id_ in ids], "patient_id": ids, "path": None, "mpp": np.nan}),
    )
    site = [f"h{i % sites}" for i in range(patients)]
    table = pd.DataFrame({"patient_id": ids, "site": site, "survival_days": days, "event": event})
    table = table.assign(grade=np.where(risk > 0, "G3", "G2"), purity=0.5 + 0.1 * risk, age=60.0, sex=1.0)
    write_parquet(
        folder / "patients.parquet",
        pa.Table.from_pandas(table, preserve_index=False),
        {"classes": {"grade": ["G2", "G3"], "purity": []}, "cohort": name},
    )
    values = (6 + rng.normal(size=(patients, len(GENES))) + risk[:, None]).astype(np.float32)
    write_expression(folder / "expression.parquet", ExpressionMatrix(tuple(ids), GENES, values, "log2_tpm", "test"))
    write_json(folder / "gene_groups.json", {"tumor": GROUPS.tumor, "tme": GROUPS.tme, "provenance": ""})
    return folder
