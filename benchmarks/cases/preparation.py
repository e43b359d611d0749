"""What precedes the steps of a training: mean tokens for the linear models, and a first batch of every patient."""

import numpy as np
import torch

from benchmarks.measurement import time_repeats
from benchmarks.registry import Benchmark, Measurement, register
from dml.config.params import Params
from dml.core.types import Bag, Case, Cohort, GeneGroups, Microns, Mpp, Survival
from dml.data.batches import make_batches
from dml.data.patient_reader import PatientReader
from dml.data.preprocessing import Preprocessor

PATIENTS, TOKENS, WIDTH, MPP = 60, 5_000, 1_024, 0.5
ASKED = 4
"""Times that a training asks for the mean tokens: reference, gene programs, offsets with and without genes."""


def _cohort() -> Cohort:
    rng = np.random.default_rng(0)
    groups = GeneGroups(("EGFR", "MYC", "TP53"), ("CD3E", "CD8A"))
    index = torch.zeros(TOKENS, dtype=torch.long)
    cases = tuple(
        Case(
            patient_id=f"P{i}",
            site="a",
            bags={Mpp(MPP): Bag(torch.randn(TOKENS, WIDTH).half(), None, index, Mpp(MPP), Microns(128.0), "x")},
            expression=rng.normal(6, 1, 5).astype(np.float32),
            survival=Survival(float(rng.exponential(500)), bool(rng.random() < 0.7)),
        )
        for i in range(PATIENTS)
    )
    return Cohort("demo", cases, (*groups.tumor, *groups.tme), "log2_tpm", groups, {})


def _time_preparation() -> Measurement:
    params = Params.model_validate(
        {"cohort": "x", "tasks": ["survival"], "folds": [0, 1], "tiles": {"mpps": [MPP]}, "embed": {"encoder": "x"}}
    )
    cohort = _cohort()
    prepared = Preprocessor.fit(cohort, params, "survival")

    def prepare() -> None:
        for _ in range(ASKED):
            PatientReader(prepared, cohort).source_rows(cohort.cases)
        read = PatientReader(prepared, cohort)
        for _ in make_batches([read(case) for case in cohort.cases], prepared, 4):
            pass

    return time_repeats(prepare, repeats=1, warm=0)


register(Benchmark("preparation, 60 patients of 5,000 x 1,024", "1 model steps", _time_preparation))
