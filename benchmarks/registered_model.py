"""A registered student of two folds with random weights, and a slide and a feature file for it, in a folder."""

from pathlib import Path

import numpy as np
import torch

from benchmarks.repository_copy import run_command
from dml.config.params import Params
from dml.core.files import write_json
from dml.core.types import Bag, Case, Cohort, GeneGroups, Microns, Mpp, Survival
from dml.data.preprocessing import Preprocessor
from dml.demo.slide_file import write_slide
from dml.training.checkpoint import FoldModel, ModelSpec

ENCODER, WIDTH, MPP = "efficientnet_lite0", 1280, 0.5
NAME = "demo-survival-student"
FEATURES, SLIDE = "features.npy", "slide.tif"
TILES = 2_500
"""Tokens of the feature file."""
SIDE = 2_048
"""Pixels of a side of the slide: 64 tiles."""
_REGISTER = "from dml.config import params; from dml.registry.registration import register; "
_REGISTER += "register(params.load(), 'survival', 'student')"


def write_registered_model(folder: Path) -> None:
    """Write the folds of a student and register them in a store in `folder`."""
    sections = {"tiles": {"mpps": [MPP]}, "embed": {"encoder": ENCODER}}
    params = Params.model_validate({"cohort": "demo", "tasks": ["survival"], "folds": [0, 1], **sections})
    prepared = Preprocessor.fit(_cohort(), params, "survival")
    for fold in range(2):
        spec = ModelSpec(
            name="student",
            preprocessor=prepared,
            model=params.model,
            teacher=params.teacher,
            distillation=params.distillation,
            tiles=params.tiles,
            embed=params.embed,
            years=(1.0, 2.0),
            members=1,
            seed=fold,
        )
        torch.manual_seed(fold)
        FoldModel(spec, (spec.build().eval(),)).save(folder / f"models/demo/survival/student/fold-{fold}")
    write_json(folder / "reports/demo/survival/metrics.json", {"student": {"c_index": {"value": 0.7}}})
    write_json(folder / "params.yaml", params.model_dump(mode="json"))
    run_command(folder, "python", "-c", _REGISTER)


def write_inputs(folder: Path) -> None:
    """Write the feature file and the slide, painted noise that is all tissue."""
    rng = np.random.default_rng(0)
    np.save(folder / FEATURES, rng.normal(size=(TILES, WIDTH)).astype(np.float16))
    smooth = np.kron(rng.normal(size=(SIDE // 32, SIDE // 32, 3)), np.ones((32, 32, 1))) * 20
    image = np.array([190, 130, 180]) + smooth + rng.normal(size=(SIDE, SIDE, 3)) * 8
    write_slide(folder / SLIDE, np.clip(image, 0, 255).astype(np.uint8), MPP, "benchmark")


def _cohort() -> Cohort:
    rng = np.random.default_rng(0)
    groups = GeneGroups(("EGFR", "MYC", "TP53"), ("CD3E", "CD8A"))
    cases = tuple(
        Case(
            patient_id=f"P{i}",
            site="a",
            bags={Mpp(MPP): _bag(rng)},
            expression=rng.normal(6, 1, 5).astype(np.float32),
            survival=Survival(float(rng.exponential(500)), bool(rng.random() < 0.7)),
        )
        for i in range(24)
    )
    return Cohort("demo", cases, (*groups.tumor, *groups.tme), "log2_tpm", groups, {})


def _bag(rng: np.random.Generator) -> Bag:
    tokens = torch.from_numpy(rng.normal(size=(12, WIDTH)).astype(np.float16))
    coords = torch.tensor([[(i % 4 + 0.5) * 128.0, (i // 4 + 0.5) * 128.0] for i in range(12)])
    return Bag(tokens, coords, torch.zeros(12, dtype=torch.long), Mpp(MPP), Microns(128.0), ENCODER)
