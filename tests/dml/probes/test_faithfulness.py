"""Deletion and insertion curves: on a network whose tiles' effects are known, and on untrained ones."""

from dataclasses import replace

import numpy as np
import pytest

from dml.attribution.tile_curves import SHARES, patient_curves
from dml.core.types import Cohort
from dml.probes.faithfulness import MIN_TILES, probe_faithfulness
from dml.probes.fold_models import FoldModels
from tests.dml.attribution.test_attribute import fold_model, patients


def large_cases(count: int) -> Cohort:
    cohort = patients()
    able = [case for case in cohort.cases if max(len(bag) for bag in case.bags.values()) >= MIN_TILES]
    return replace(cohort, cases=tuple(able[:count]))


def test_mean_pooled_logits_are_decided_by_the_tiles_that_contribute_most() -> None:
    """With uniform attention the curves of contribution are above those of any other order at each share."""
    model = fold_model("mean_pool", "grade", members=1)
    for case in large_cases(6).cases:
        curves = patient_curves(model, patients().subset({case.patient_id}), 4, np.random.default_rng(0))
        deletion, insertion = curves["contribution"]
        assert (deletion < curves["random"][0]).all()
        assert (insertion > curves["random"][1]).all()


def test_all_tiles_alike_leave_the_output_as_it_is() -> None:
    model = fold_model("mean_pool", "grade", members=1)
    cohort = large_cases(1)
    case = cohort.cases[0]
    alike = {mpp: replace(bag, tokens=bag.tokens[:1].expand(len(bag), -1)) for mpp, bag in case.bags.items()}
    curves = patient_curves(model, replace(cohort, cases=(replace(case, bags=alike),)), 2, np.random.default_rng(0))
    for values in curves.values():
        assert np.abs(values).max() < 1e-5


def test_contribution_is_more_faithful_than_random_and_the_same_seed_gives_the_same() -> None:
    pair = {name: fold_model(name, "survival", True, members=1) for name in ("teacher", "student")}
    folds = [FoldModels(0, pair, patients(), large_cases(8))]
    result = probe_faithfulness(folds, 6, 3, 200, 0.95, 1)
    assert result == probe_faithfulness(folds, 6, 3, 200, 0.95, 1)
    assert (result["patients"], result["shares"]) == (6, list(SHARES))
    for model in pair:
        assert result[model]["differences"]["random"]["ci_low"] > 0
        area = result[model]["contribution"]
        mean = np.mean(np.subtract(area["insertion"], area["deletion"]))
        assert area["faithfulness"]["value"] == pytest.approx(mean, abs=1e-5)


def test_small_bags_are_left_out_with_the_reason() -> None:
    cohort = patients()
    one = cohort.cases[0]
    bags = {
        mpp: replace(bag, tokens=bag.tokens[:1], coords_um=None, slide=bag.slide[:1]) for mpp, bag in one.bags.items()
    }
    folds = [FoldModels(0, {}, cohort, replace(cohort, cases=(replace(one, bags=bags),)))]
    assert probe_faithfulness(folds, 5, 1, 10, 0.95, 0) == {"left_out": f"no test patient has {MIN_TILES} tiles"}
