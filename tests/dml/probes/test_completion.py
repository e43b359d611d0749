"""Energy score: by hand, proper, and of samples from the right and from another patient's distribution."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dml.core.errors import ConfigError
from dml.probes.completion import energy_score, score_completion
from dml.probes.fold_models import FoldModels
from dml.training.folds import make_fold, select_test_patients
from dml.training.train import distill_student, train_teacher
from tests.dml.probes.conftest import PARAMS, splits
from tests.synthetic import change, cohort


def test_one_patient_pair_by_pair() -> None:
    random = np.random.default_rng(0)
    samples, observed = random.normal(size=(5, 3, 4)), random.normal(size=(3, 4))
    expected = [
        np.mean([np.linalg.norm(x - observed[i]) for x in samples[:, i]])
        - np.mean([np.linalg.norm(x - y) for x in samples[:, i] for y in samples[:, i]]) / 2
        for i in range(3)
    ]
    result = energy_score(torch.from_numpy(samples), torch.from_numpy(observed))
    assert result.numpy() == pytest.approx(expected)


def test_the_true_distribution_scores_best() -> None:
    generator = torch.Generator().manual_seed(0)
    observed, noise = torch.randn(2000, 3, generator=generator), torch.randn(64, 2000, 3, generator=generator)
    scores = {
        name: float(energy_score(centre + width * noise, observed).mean())
        for name, centre, width in (("true", 0, 1), ("narrow", 0, 0.3), ("wide", 0, 2), ("beside", 1, 1))
    }
    assert min(scores, key=scores.get) == "true"


def test_the_energy_score_of_a_point_is_its_distance() -> None:
    assert energy_score(torch.zeros(1, 1, 2), torch.tensor([[3.0, 4.0]])).tolist() == [5.0]


@pytest.fixture(scope="module")
def completed() -> FoldModels:
    """One fold of a trained teacher and the student that completes its genes."""
    params = change(
        PARAMS, distillation={"architecture": "completed_genes"}, optimisation={"epochs": 15, "ensemble_size": 1}
    )
    data = cohort(120, seed=3)
    fold = make_fold(data, splits(data), 0)
    teacher = train_teacher(fold, params, "survival").model
    models = {"teacher": teacher, "student": distill_student(fold, params, "survival", teacher).model}
    return FoldModels(0, models, fold.learning, select_test_patients(data, splits(data), 0))


def test_slides_of_other_patients_complete_worse(completed: FoldModels) -> None:
    """Tokens show the tumor factor, which is in the tumor genes."""
    result = score_completion([completed], PARAMS.evaluation, 0)
    assert result["patients"] == 60
    assert result["change"] > 0.1
    scores = {name: score["value"] for name, score in result["energy_score"].items()}
    assert scores["samples"] < scores["mean"]
    gain = result["difference"]["another"]
    assert gain["difference"] == pytest.approx(scores["samples"] - scores["another"], abs=2e-6)
    assert gain["ci_high"] < 0


def test_other_students_are_refused(completed: FoldModels) -> None:
    other = replace(completed, models={"student": completed.models["teacher"]})
    with pytest.raises(ConfigError, match="completed_genes"):
        score_completion([other], PARAMS.evaluation, 0)
