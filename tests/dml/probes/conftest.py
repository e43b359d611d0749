"""Two folds of the small planted cohort with a trained teacher and student each."""

import numpy as np
import pandas as pd
import pytest

from dml.config import params as config
from dml.core.tasks import SurvivalTask
from dml.core.types import Cohort
from dml.probes.fold_models import FoldModels, collect_outcomes
from dml.probes.paired_scorer import PairedScorer
from dml.training.folds import make_fold, select_test_patients
from dml.training.train import distill_student, train_teacher
from tests.synthetic import cohort

PARAMS = config.Params(
    cohort="synthetic",
    tasks=("survival",),
    folds=(0, 1),
    model=config.Model(width=16, heads=2, n_queries=3, gene_width=16, dropout=0.1),
    optimisation=config.Optimisation(
        epochs=12, batch_size=8, learning_rate=3e-3, patience=12, device="cpu", ensemble_size=2
    ),
    evaluation=config.Evaluation(resamples=200),
)


def splits(data: Cohort) -> pd.DataFrame:
    rows = []
    for fold in range(2):
        for i, case in enumerate(data.cases):
            role = "test" if i % 2 == fold else ("validation" if i % 8 < 2 else "train")
            rows.append((case.patient_id, fold, role, -1 if role == "test" else i % 3))
    return pd.DataFrame(rows, columns=["patient_id", "fold", "role", "inner_fold"])


@pytest.fixture(scope="package")
def data() -> Cohort:
    return cohort(120, seed=3)


@pytest.fixture(scope="package")
def fold_models(data: Cohort) -> list[FoldModels]:
    table, folds = splits(data), []
    for index in range(2):
        fold = make_fold(data, table, index)
        teacher = train_teacher(fold, PARAMS, "survival").model
        models = {"teacher": teacher, "student": distill_student(fold, PARAMS, "survival", teacher).model}
        learning = data.subset(set(table.loc[(table["fold"] == index) & (table["role"] != "test"), "patient_id"]))
        folds.append(FoldModels(index, models, learning, select_test_patients(data, table, index)))
    return folds


@pytest.fixture(scope="package")
def scorer(fold_models: list[FoldModels]) -> PairedScorer:
    return PairedScorer.of(SurvivalTask(), collect_outcomes(fold_models, SurvivalTask()), PARAMS.evaluation, 0)


@pytest.fixture(scope="package")
def planted(data: Cohort) -> pd.DataFrame:
    """The mean of a gene group is the planted factor up to noise."""
    return pd.DataFrame(
        {
            "patient_id": [case.patient_id for case in data.cases],
            "tumor": [np.mean(case.expression[:5]) for case in data.cases],
            "tme": [np.mean(case.expression[5:]) for case in data.cases],
        }
    )
