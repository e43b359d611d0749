"""The degradation probe on models whose answer is known, and on what each kind of damage does to a patient."""

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dml.config import params as config
from dml.core.errors import ConfigError
from dml.core.tasks import SurvivalTask
from dml.core.types import Cohort
from dml.probes.degradation import KINDS, LEVELS, Evaluated, probe_degradation, spoil, trapezoid_weights
from dml.probes.fold_models import FoldModels, collect_outcomes
from dml.probes.paired_scorer import PairedScorer
from tests.synthetic import TUMOR, cohort

DATA = cohort(120, seed=5)
DEVIATIONS = {fold: np.ones(12) for fold in range(2)}


@dataclass(frozen=True)
class Known:
    """Predicts a risk that is a plain function of the inputs."""

    risk: Any

    def predict(self, data: Cohort) -> pd.DataFrame:
        return pd.DataFrame(
            {"patient_id": [c.patient_id for c in data.cases], "risk": [float(self.risk(c)) for c in data.cases]}
        )


def mean_tile(case: Any) -> float:
    return float(np.mean([bag.tokens[:, 0].float().mean() for bag in case.bags.values()]))


def mean_gene(case: Any) -> float:
    return float(np.nanmean(np.append(case.expression[: len(TUMOR)], 0.0)))


MODELS = {
    "teacher": Known(lambda case: mean_tile(case) + 10 * mean_gene(case)),
    "student": Known(mean_tile),
    "mcat": Known(lambda case: 1.0 if case.patient_id < "P060" else 0.0),  # reads nothing: cannot be spoiled
}


@pytest.fixture(scope="module")
def folds() -> list[FoldModels]:
    halves = [{c.patient_id for i, c in enumerate(DATA.cases) if i % 2 == fold} for fold in range(2)]
    return [FoldModels(fold, MODELS, DATA.subset(halves[1 - fold]), DATA.subset(halves[fold])) for fold in range(2)]


@pytest.fixture(scope="module")
def scorer(folds: list[FoldModels]) -> PairedScorer:
    outcomes = collect_outcomes(folds, SurvivalTask())
    return PairedScorer.of(SurvivalTask(), outcomes, config.Evaluation(resamples=200), 0)


@pytest.fixture(scope="module")
def probed(folds: list[FoldModels], scorer: PairedScorer) -> dict[str, Any]:
    return probe_degradation(folds, scorer, LEVELS, repeats=3, seed=1)


def test_a_model_is_spoiled_only_by_damage_to_what_it_reads(probed: dict[str, Any]) -> None:
    assert set(probed["kinds"]) == set(KINDS)
    assert set(probed["kinds"]["gene_noise"]) == {"teacher", "mcat"}
    assert set(probed["kinds"]["tokens_mixed"]) == {"teacher", "student", "mcat"}
    for kind in KINDS:
        known = probed["kinds"][kind]["mcat"]
        assert known["loss"]["difference"] == 0
        assert {point["value"] for point in known["curve"]} == {known["area"]["value"]}


def test_the_first_point_is_the_plain_prediction(probed: dict[str, Any], folds: Any, scorer: PairedScorer) -> None:
    from dml.probes.fold_models import predict_folds

    plain = scorer.value(scorer.metric(predict_folds(folds, "student")))
    first = probed["kinds"]["tokens_lost"]["student"]["curve"][0]
    assert first == {"level": 0.0, **plain}


def test_tiles_of_others_make_a_slide_reader_worse_and_worse(probed: dict[str, Any]) -> None:
    values = [point["value"] for point in probed["kinds"]["tokens_mixed"]["student"]["curve"]]
    assert values[0] > values[2] > values[-1]
    assert probed["kinds"]["tokens_mixed"]["student"]["loss"]["ci_high"] < 0


def test_lost_tiles_cost_less_than_those_of_another(probed: dict[str, Any]) -> None:
    losses = [probed["kinds"][kind]["student"]["loss"]["difference"] for kind in ("tokens_lost", "tokens_mixed")]
    assert losses[0] > losses[1]


def test_noise_of_genes_makes_a_gene_reader_worse(probed: dict[str, Any]) -> None:
    assert probed["kinds"]["gene_noise"]["teacher"]["loss"]["difference"] < -0.01


def test_a_scale_changes_no_order_of_a_model_that_reads_genes_only(folds: Any, scorer: PairedScorer) -> None:
    alone = [replace(one, models={"teacher": Known(mean_gene)}) for one in folds]
    result = probe_degradation(alone, scorer, (0.0, 0.3, 0.7), repeats=1)
    assert result["kinds"]["gene_scale"]["teacher"]["loss"]["difference"] == 0
    assert result["compared"]["gene_scale"] == {}


def test_areas_are_compared_with_that_of_the_teacher(probed: dict[str, Any]) -> None:
    for kind, models in probed["kinds"].items():
        for name, entry in probed["compared"][kind].items():
            gap = models["teacher"]["area"]["value"] - models[name]["area"]["value"]
            assert entry["difference"] == pytest.approx(gap, abs=2e-6)
            assert entry["p_holm"] >= entry["p"]


def test_a_model_that_does_not_predict_everybody_is_left_out(folds: Any, scorer: PairedScorer) -> None:
    class Picky(Known):
        def predict(self, data: Cohort) -> pd.DataFrame:
            return super().predict(data).iloc[1:]

    more = [replace(one, models={**MODELS, "abmil": Picky(mean_tile)}) for one in folds]
    assert probe_degradation(more, scorer, (0.0, 0.5), repeats=1)["left_out"] == ["abmil"]


@pytest.mark.parametrize("levels", [(0.0,), (0.1, 0.5), (0.0, 0.5, 0.5), (0.0, 1.0)])
def test_levels_must_increase_from_zero_and_stay_below_one(folds: Any, scorer: PairedScorer, levels: Any) -> None:
    with pytest.raises(ConfigError, match="must increase from 0 and stay below 1"):
        probe_degradation(folds, scorer, levels)


def test_the_same_tiles_are_lost_at_every_higher_level() -> None:
    rows = []
    for level in (0.25, 0.5, 0.9):
        spoiled = spoil("tokens_lost", level, (1, 0), DEVIATIONS)(DATA, 0)
        rows.append([{tuple(row) for row in case.bags[0.5].tokens.tolist()} for case in spoiled.cases])
        for before, after in zip(DATA.cases, spoiled.cases, strict=True):
            total = len(before.bags[0.5])
            assert len(after.bags[0.5]) == max(total - round(level * total), 1)
            assert len(after.bags[0.5].coords_um) == len(after.bags[0.5].slide) == len(after.bags[0.5])
    for weaker, stronger in pairwise(rows):
        assert all(more >= less for more, less in zip(weaker, stronger, strict=True))


def test_mixed_tiles_are_those_of_one_other_patient_and_the_original_stays() -> None:
    spoiled = spoil("tokens_mixed", 0.5, (1, 0), DEVIATIONS)(DATA, 0)
    tiles = {c.patient_id: {tuple(row) for row in c.bags[0.5].tokens.tolist()} for c in DATA.cases}
    for case in spoiled.cases:
        foreign = {tuple(row) for row in case.bags[0.5].tokens.tolist()} - tiles[case.patient_id]
        assert len(foreign) > 0
        assert sum(foreign <= of_other for of_other in tiles.values()) == 1
    assert all(tuple(c.bags[0.5].tokens[0].tolist()) in tiles[c.patient_id] for c in DATA.cases)


def test_noise_has_the_stated_variance_and_a_cut_panel_the_same_genes_of_all() -> None:
    noisy = spoil("gene_noise", 0.8, (1, 0), DEVIATIONS)(DATA, 0)
    added = np.array([b.expression - a.expression for a, b in zip(DATA.cases, noisy.cases, strict=True)])
    assert float(added.std()) == pytest.approx(2.0, rel=0.1)
    cut = spoil("genes_missing", 0.5, (1, 0), DEVIATIONS)(DATA, 1)
    missing = np.array([np.isnan(case.expression) for case in cut.cases])
    assert missing.sum(1).tolist() == [6] * 120
    assert (missing == missing[0]).all()


def test_patients_without_genes_stay_without() -> None:
    data = cohort(6, absent=3)
    for kind in ("gene_noise", "genes_missing", "gene_scale"):
        spoiled = spoil(kind, 0.5, (1, 0), DEVIATIONS)(data, 0)
        assert [case.expression is None for case in spoiled.cases] == [True] * 3 + [False] * 3


def test_area_is_the_mean_over_the_levels() -> None:
    levels = [0.0, 0.25, 0.75]
    points = [Evaluated(value, np.full(10, value)) for value in (0.9, 0.8, 0.4)]
    area = Evaluated.mean(points, trapezoid_weights(levels))
    assert area.value == pytest.approx((0.25 * 0.85 + 0.5 * 0.6) / 0.75)
    assert area.estimate(0.95)["ci_low"] == pytest.approx(area.value)
    assert Evaluated(0.5, np.full(10, np.nan)).estimate(0.95) is None
