"""The steps of an update, each by itself, and the test that decides how many are taken."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from torch import nn

from dml.core.tasks import ClassificationTask, RegressionTask, SurvivalTask
from dml.core.types import ClassTarget
from dml.update.closed_test import climb
from dml.update.low_rank_weights import add_low_rank, merge_low_rank
from dml.update.predictive_score import log_scores
from dml.update.recalibrated_network import fit_level


def test_the_ladder_is_climbed_too_far_as_rarely_as_promised() -> None:
    """Step 1 is enough, steps 2 and 3 are noise around it; how often is one of them taken?"""
    rng, repeats, alpha = np.random.default_rng(0), 300, 0.1
    too_far = 0
    for seed in range(repeats):
        patient = rng.standard_t(4, size=60)
        pays = patient + 0.8 + 0.5 * rng.normal(size=60)
        more = [pays + 0.3 * rng.normal(size=60) for _ in range(2)]
        too_far += climb(np.column_stack([patient, pays, *more]), alpha, seed)[0] > 1
    assert too_far / repeats <= stats.binom.ppf(0.999, repeats, alpha) / repeats


def test_the_lowest_step_that_is_enough_is_taken() -> None:
    rng = np.random.default_rng(1)
    patient = rng.normal(size=150)
    level, slope = patient + 0.5 + 0.3 * rng.normal(size=150), patient + 1.5 + 0.3 * rng.normal(size=150)
    assert climb(np.column_stack([patient, patient, patient]), 0.05, 0)[0] == 0
    assert climb(np.column_stack([patient, level, level]), 0.05, 0)[0] == 1
    assert climb(np.column_stack([patient, level, slope]), 0.05, 0)[0] == 2
    assert climb(np.column_stack([patient, patient - 1, slope]), 0.05, 0)[0] == 2, "a step that does not pay is passed"


def test_scores_are_densities() -> None:
    days = np.arange(1.0, 4000.0)
    rows = pd.DataFrame({"survival_365": 0.8, "survival_730": 0.6, "days": days, "event": True})
    density = np.exp(log_scores(rows, SurvivalTask(), (1.0, 2.0)))
    censored = np.exp(log_scores(rows.assign(event=False), SurvivalTask(), (1.0, 2.0)))
    assert censored[364] == pytest.approx(0.8)
    assert censored[729] == pytest.approx(0.6)
    assert density.sum() + censored[-1] == pytest.approx(1.0, abs=1e-3)
    numbers = pd.DataFrame({"target": [0.0], "value": [0.0], "value_lower": [-1.2816], "value_upper": [1.2816]})
    assert log_scores(numbers, RegressionTask("x"), ())[0] == pytest.approx(stats.norm.logpdf(0), abs=1e-4)
    wrong = pd.DataFrame({"p_a": [1.0], "p_b": [0.0], "label": ["b"]})
    assert np.isfinite(log_scores(wrong, ClassificationTask("y", ("a", "b")), ())).all()


def test_level_and_slope_undo_what_was_done_to_the_logits() -> None:
    rng = np.random.default_rng(2)
    true = torch.from_numpy(rng.normal(size=(4000, 2)))
    label = torch.tensor([int(x) for x in (rng.random(4000) < torch.softmax(true, 1)[:, 1].numpy())])
    target = ClassTarget(label, torch.ones(4000, dtype=torch.bool))
    given = 2 * true + torch.tensor([1.0, -1.0])
    fitted = fit_level(given, torch.zeros(2), target, with_slope=True)
    corrected = fitted.level + fitted.network * given
    assert fitted.network == pytest.approx(0.5, abs=0.05)
    margin = (corrected[:, 1] - corrected[:, 0]) - (true[:, 1] - true[:, 0])
    assert abs(float(margin.mean())) < 0.1
    assert fit_level(given, torch.zeros(2), target, with_slope=False).network == 1.0


def test_low_rank_changes_are_merged_into_the_former_parameters() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2))
    before, inputs = {name: value.clone() for name, value in network.state_dict().items()}, torch.randn(3, 6)
    expected = network(inputs)
    add_low_rank(network)
    assert torch.equal(network(inputs), expected), "nothing has changed at the start"
    trained = [name for name, p in network.named_parameters() if p.requires_grad and "weight" in name]
    assert all(name.endswith(("down", "up")) for name in trained)
    nn.init.normal_(network[0].parametrizations.weight[0].up)
    changed = network(inputs)
    merge_low_rank(network)
    assert set(network.state_dict()) == set(before)
    assert torch.allclose(network(inputs), changed)
    assert torch.linalg.matrix_rank(network[0].weight - before["0.weight"]) <= 4
