"""A tiny cohort and tiny trained folds: real models with few weights, as the training stages write them."""

from pathlib import Path

import numpy as np
import torch

from dml.config import params as config
from dml.core.types import Bag, Case, Cohort, GeneGroups, Microns, Mpp, Survival
from dml.data.clinical_inputs import ClinicalInputs
from dml.data.preprocessing import Preprocessor
from dml.training.checkpoint import FoldModel, ModelSpec

WIDTH, ENCODER, MPPS = 8, "tiny", (0.5, 1.0)
GROUPS = GeneGroups(("EGFR", "MYC", "TP53"), ("CD3E", "CD8A"))
GENES = (*GROUPS.tumor, *GROUPS.tme)
GRADES = ("G2", "G3", "G4")


def bag(mpp: float, rng: np.random.Generator, tiles: int = 12) -> Bag:
    tokens = torch.from_numpy(rng.normal(size=(tiles, WIDTH)).astype(np.float16))
    side = 256 * mpp
    coords = torch.tensor([[(i % 4 + 0.5) * side, (i // 4 + 0.5) * side] for i in range(tiles)])
    return Bag(tokens, coords, torch.zeros(tiles, dtype=torch.long), Mpp(mpp), Microns(side), ENCODER)


def cohort(patients: int = 24, mpps: tuple[float, ...] = MPPS) -> Cohort:
    rng = np.random.default_rng(0)
    cases = tuple(
        Case(
            patient_id=f"p{i}",
            site="a",
            bags={Mpp(mpp): bag(mpp, rng) for mpp in mpps},
            expression=(6 + rng.normal(size=len(GENES))).astype(np.float32),
            survival=Survival(float(rng.exponential(500)), bool(rng.random() < 0.7)),
            labels={"grade": GRADES[i % 3]},
            covariates={"age": 50.0 + i},
            values={"purity": 0.2 + 0.1 * (i % 7)},
        )
        for i in range(patients)
    )
    return Cohort("demo", cases, GENES, "log2_tpm", GROUPS, {"grade": GRADES, "purity": ()})


def write_folds(
    folder: Path,
    name: str,
    folds: int = 2,
    task: str = "survival",
    mpps: tuple[float, ...] = MPPS,
    zoom: float | None = None,
    clinical: tuple[str, ...] = (),
) -> Path:
    """Write the folds of one model; the same call writes the same weights."""
    params = config.Params.model_validate(
        {
            "cohort": "demo",
            "tasks": [task],
            "folds": [0, 1],
            "tiles": {"mpps": mpps},
            "embed": {"encoder": ENCODER},
            "model": {"width": 8, "heads": 2, "n_queries": 4, "gene_width": 8},
            "distillation": {"zoom": zoom},
        }
    )
    preprocessor = Preprocessor.fit(cohort(mpps=mpps), params, task)
    if clinical:
        fitted = ClinicalInputs.fit(cohort(mpps=mpps), clinical, task, 0.3)
        preprocessor = preprocessor.model_copy(update={"clinical": fitted})
    for fold in range(folds):
        spec = ModelSpec.model_validate(
            {
                "name": name,
                "preprocessor": preprocessor,
                "model": params.model,
                "teacher": params.teacher,
                "distillation": params.distillation,
                "tiles": params.tiles,
                "years": (1.0, 2.0),
                "members": 1,
                "seed": fold,
                "train_cutoff": -1.5 + 0.1 * fold,
                "train_risk_deviation": 0.5,
            }
        )
        with torch.random.fork_rng():
            torch.manual_seed(fold)
            member = spec.build().eval()
            if clinical:  # 0 before training
                torch.nn.init.normal_(member.head.clinical.last.weight)
            FoldModel(spec, (member,)).save(folder / f"fold-{fold}")
    return folder
