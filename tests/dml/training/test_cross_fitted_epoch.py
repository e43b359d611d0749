"""An epoch that is best by chance must not flatter the prediction of the patients that chose it."""

import torch

from dml.core.types import ClassTarget, SurvivalTarget
from dml.models.likelihoods import log_likelihood
from dml.training.cross_fitted_epoch import cross_stop, divide, strata_of

EPOCHS, PATIENTS = 40, 30


def coin_flips(seed: int) -> tuple[torch.Tensor, ClassTarget]:
    """Logits of pure noise in every epoch, and labels that they cannot know."""
    random = torch.Generator().manual_seed(seed)
    label = torch.randint(0, 2, (PATIENTS,), generator=random)
    logits = torch.randn(EPOCHS, PATIENTS, 2, generator=random)
    return logits, ClassTarget(label, torch.ones(PATIENTS, dtype=torch.bool))


def test_the_best_epoch_of_noise_flatters_and_cross_fitted_epoch_does_not() -> None:
    best, crossed, honest = [], [], []
    for seed in range(200):
        logits, target = coin_flips(seed)
        losses = -torch.stack([log_likelihood(epoch, target).mean() for epoch in logits])
        best.append(float(losses.min()))
        honest.append(float(losses.mean()))
        crossed.append(float(-log_likelihood(cross_stop(logits, target, seed), target).mean()))
    expected, standard_error = torch.tensor(honest).mean(), torch.tensor(crossed).std() / 200**0.5
    assert torch.tensor(best).mean() < expected - 0.1
    assert abs(torch.tensor(crossed).mean() - expected) < 3 * standard_error


def test_each_half_is_predicted_at_the_epoch_that_is_best_on_the_other() -> None:
    logits, target = coin_flips(1)
    half = divide(strata_of(target), seed=5)
    likelihood = torch.stack([log_likelihood(epoch, target) for epoch in logits])
    result = cross_stop(logits, target, seed=5)
    for part in (half, ~half):
        epoch = int(likelihood[:, ~part].sum(1).argmax())
        assert torch.equal(result[part], logits[epoch][part])


def test_a_patients_own_outcome_does_not_move_its_prediction() -> None:
    logits, target = coin_flips(2)
    before = cross_stop(logits, target, seed=3)
    half = divide(strata_of(target), seed=3)
    patient = int(half.nonzero()[0, 0])
    altered = logits.clone()
    altered[:, half] = torch.randn(EPOCHS, int(half.sum()), 2)  # whatever is predicted in this half ...
    assert torch.equal(cross_stop(altered, target, seed=3)[half], altered[_epoch(before, logits, half)][half])
    assert torch.equal(before[patient], logits[_epoch(before, logits, half), patient])


def _epoch(result: torch.Tensor, logits: torch.Tensor, half: torch.Tensor) -> int:
    return next(e for e in range(EPOCHS) if torch.equal(result[half], logits[e][half]))


def test_halves_have_the_same_share_of_deaths_and_are_as_large() -> None:
    event = torch.tensor([True] * 11 + [False] * 20)
    target = SurvivalTarget(torch.zeros(31, dtype=torch.long), event, torch.ones(31), torch.ones(31, dtype=torch.bool))
    half = divide(strata_of(target), seed=0)
    assert sorted((int(half.sum()), int((~half).sum()))) == [15, 16]
    assert sorted((int((half & event).sum()), int((~half & event).sum()))) == [5, 6]


def test_a_single_patient_is_predicted_after_the_last_epoch() -> None:
    target = ClassTarget(torch.tensor([0]), torch.tensor([True]))
    logits = torch.randn(3, 1, 2)
    assert torch.equal(cross_stop(logits, target, seed=0), logits[-1])
