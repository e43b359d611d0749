"""Expression of the generated patients: gene groups that load on the planted factors, and genes that do not.

Shape legend: p patients, g genes.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from dml.demo.factors import DemoConfig, normal_scores

GENE_GROUPS = Path(__file__).parents[1] / "cohorts" / "resources" / "default.yaml"
SUPPRESSORS = frozenset({"PTEN", "NF1", "ATRX", "CIC", "FUBP1", "TP53", "CDKN2A", "CDKN2B", "RB1", "GFAP", "BCAN"})
"""Tumor genes that fall as the tumor factor rises."""
HOMEOSTATIC = frozenset({"TMEM119", "P2RY12", "CX3CR1"})
"""Microglia genes that fall as the microenvironment is inflamed."""
HOUSEKEEPING: tuple[tuple[str, tuple[object, ...]], ...] = (
    (
        "RPL",
        (3, 4, 5, 6, "7", "7A", 8, 9, "10A", 11, 12, 13, 14, 15, 17, "18A", 19, 21, 22, 23, 24, 26, 27, 28, 29, 30, 31),
    ),
    ("RPS", (2, 3, "3A", 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, "15A", 16, 17, 18, 19, 20, 21, 23, 24, 25, 26, 28, 29)),
    (
        "NDUF",
        ("A1", "A2", "A3", "A5", "A6", "A7", "A8", "A9", "B1", "B2", "B3", "B4", "B5", "B6", "B7", "S1", "S2", "S3"),
    ),
    (
        "PSM",
        ("A1", "A2", "A3", "A4", "A5", "A6", "A7", "B1", "B2", "B3", "B4", "B5", "B6", "B7", "C1", "C2", "C3", "C4"),
    ),
    (
        "MRPL",
        (1, 2, 3, 4, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 27, 28, 30, 32, 33, 34, 35, 36),
    ),
    ("MRPS", (2, 5, 6, 7, 9, 10, 11, 12, 14, 15, 16, 17, 22, 23, 24, 25, 26, 27, 28, 30, 31, 33, 34, 35)),
    (
        "EIF",
        ("1", "1AX", "2S1", "2S2", "3A", "3B", "3D", "3E", "3F", "3G", "3H", "3I", "3J", "3K", "3L", "3M", "4E", "4H"),
    ),
    ("POLR2", tuple("ABCDEFGHIKL")),
    ("COX", ("4I1", "5A", "5B", "6A1", "6B1", "6C", "7A2", "7B", "7C", "8A")),
    ("SNRP", ("A", "A1", "B", "B2", "C", "D1", "D2", "D3", "E", "F", "G", "N")),
    ("CCT", ("2", "3", "4", "5", "6A", "7", "8")),
)
"""Families of ubiquitously expressed genes: (prefix, suffixes). They carry no signal in this cohort."""
GENE_NOISE, SITE_NOISE = 0.7, 0.35


def gene_groups() -> dict[str, tuple[str, ...]]:
    """Return the symbols of the shipped gene groups."""
    content = yaml.safe_load(GENE_GROUPS.read_text())
    return {"tumor": tuple(content["tumor"]), "tme": tuple(content["tme"])}


def noise_genes() -> tuple[str, ...]:
    """Return the symbols of about 200 genes that carry no signal."""
    return tuple(f"{prefix}{suffix}" for prefix, suffixes in HOUSEKEEPING for suffix in suffixes)


def draw_expression(config: DemoConfig, planted: pd.DataFrame) -> pd.DataFrame:
    """Draw log2(TPM + 1) of every patient.

    A gene of a subspace is ``base + loading * (factor + sampling noise) + site + noise``; the sampling noise is shared
    by the genes of a subspace, because the piece of tissue that was sequenced is not the one on the slide.

    Returns
    -------
    DataFrame [p g]
        Indexed by patient_id, one column a gene in alphabetical order, rounded to 4 decimals.
    """
    rng, p = config.stream("expression"), config.patients
    loadings = _draw_loadings(rng)
    sampling_noise = np.stack([normal_scores(rng, p) for _ in loadings.columns], axis=1)
    sampled = planted[list(loadings.columns)].to_numpy() + np.array(config.expression_noise) * sampling_noise
    g = len(loadings)
    base = np.clip(rng.normal(5, 1.6, g), 2.5, 9)
    sites = planted["site"].str.removeprefix("site-").astype(int).to_numpy() - 1
    shift = rng.normal(0, SITE_NOISE, (config.sites, g))[sites]
    noise = rng.normal(0, GENE_NOISE, (p, g)) * rng.uniform(0.6, 1.6, g)
    values = base + (sampled[:, :, None] * loadings.to_numpy().T).sum(axis=1) + shift + noise
    table = pd.DataFrame(np.maximum(values, 0).round(4), columns=loadings.index)
    table.insert(0, "patient_id", planted["patient_id"].to_numpy())
    return table.set_index("patient_id").sort_index(axis=1)


def _draw_loadings(rng: np.random.Generator) -> pd.DataFrame:
    groups, noise = gene_groups(), noise_genes()
    columns = {}
    for subspace, genes in groups.items():
        is_falling = [gene in SUPPRESSORS | HOMEOSTATIC for gene in genes]
        columns[subspace] = pd.Series(
            rng.uniform(0.4, 1.2, len(genes)) * np.where(is_falling, -0.7, 1), index=list(genes)
        )
    table = pd.DataFrame(columns, index=[*groups["tumor"], *groups["tme"], *noise])
    return table.fillna(0.0)[["tumor", "tme"]]
