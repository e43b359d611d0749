"""Time within a bin passes as it did for the training patients."""

import numpy as np
import pandas as pd
import pytest
import torch
from lifelines import KaplanMeierFitter, NelsonAalenFitter

from dml.data.baseline_hazard import MAX_POINTS, BaselineHazard
from dml.models.likelihoods import discrete_time_log_likelihood

RANDOM = np.random.default_rng(0)
DEATH, CENSORING = RANDOM.weibull(0.6, 3000) * 900, RANDOM.exponential(700, 3000)
DAYS, EVENT = np.minimum(DEATH, CENSORING), DEATH <= CENSORING
EDGES = np.quantile(DAYS[EVENT], [0.25, 0.5, 0.75]).tolist()
BINS = np.searchsorted(EDGES, DAYS, side="right")


@pytest.fixture(scope="module")
def curve() -> BaselineHazard:
    return BaselineHazard.fit(DAYS, EVENT)


def test_it_is_the_nelson_aalen_estimate() -> None:
    days, event = DAYS[:200], EVENT[:200]
    fitted = NelsonAalenFitter(nelson_aalen_smoothing=False).fit(days, event)
    ours = BaselineHazard.fit(days, event)
    at = np.sort(days[event])
    np.testing.assert_allclose(ours(at), fitted.cumulative_hazard_at_times(at), rtol=1e-5)


def test_a_long_curve_is_stored_in_few_points(curve: BaselineHazard) -> None:
    assert EVENT.sum() > MAX_POINTS >= len(curve.days) - 1
    whole = NelsonAalenFitter(nelson_aalen_smoothing=False).fit(DAYS, EVENT)
    at = np.quantile(DAYS, [0.1, 0.5, 0.9])
    np.testing.assert_allclose(curve(at), whole.cumulative_hazard_at_times(at), rtol=0.02)


def test_base_rates_have_the_curve_of_the_training_patients(curve: BaselineHazard) -> None:
    kaplan_meier = KaplanMeierFitter().fit(DAYS, EVENT)
    log_survived = np.log1p(-curve.base_hazards(EDGES))
    for day in (50.0, 200.0, 500.0, 1500.0):
        survival = float(np.exp(curve.passed(np.array([day]), EDGES) @ log_survived)[0])
        assert survival == pytest.approx(float(kaplan_meier.predict(day)), abs=0.01)


def test_the_likelihood_is_highest_at_the_base_rates_and_without_exposure_it_is_not(curve: BaselineHazard) -> None:
    exposure = torch.from_numpy(curve.exposure(DAYS, BINS, EDGES)).float()
    bins, event = torch.from_numpy(BINS), torch.from_numpy(EVENT)

    def fit(given: torch.Tensor | None) -> np.ndarray:
        logits = torch.zeros(4, requires_grad=True)
        optimiser = torch.optim.LBFGS([logits], max_iter=100)

        def loss() -> torch.Tensor:
            optimiser.zero_grad()
            value = -discrete_time_log_likelihood(logits.expand(len(bins), -1), bins, event, given).mean()
            value.backward()
            return value

        optimiser.step(loss)
        return torch.sigmoid(logits.detach()).numpy()

    expected = curve.base_hazards(EDGES)
    np.testing.assert_allclose(fit(exposure), expected, rtol=0.01)
    assert fit(None)[-1] < 0.75 * expected[-1], "patients who leave the last bin early count as its survivors"


def test_shares_of_bins_are_one_before_and_zero_after(curve: BaselineHazard) -> None:
    passed = curve.passed(np.array([0.0, EDGES[0], EDGES[1], 1e9]), EDGES)
    np.testing.assert_allclose(passed, [[0, 0, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1]], atol=1e-6)
    assert (np.diff(curve.passed(np.linspace(0, 3000, 50), EDGES), axis=0) >= 0).all()


def test_it_is_the_density_of_a_weibull_but_for_a_constant() -> None:
    """One bin, baseline t^2: hazards -log(1-h) times it; densities of two patients against the formula."""
    logits, days = torch.tensor([[0.3], [-1.0]]), torch.tensor([0.6, 0.9])
    event, bins = torch.tensor([True, False]), torch.zeros(2, dtype=torch.long)
    ours = discrete_time_log_likelihood(logits, bins, event, days**2)
    rate = torch.nn.functional.softplus(logits[:, 0])
    density = torch.where(event, torch.log(rate * 2 * days), torch.zeros(2)) - rate * days**2
    constant = torch.where(event, torch.log(2 * days), torch.zeros(2))
    torch.testing.assert_close(ours, density - constant)


def test_it_survives_the_round_trip_through_json(curve: BaselineHazard) -> None:
    again = BaselineHazard.model_validate_json(curve.model_dump_json())
    np.testing.assert_array_equal(again.hazard, curve.hazard)
    assert pd.Series(again.days).is_monotonic_increasing
