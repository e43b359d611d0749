"""Planted factors can be recovered from expression, follow-up and labels; declared shares of entries are missing."""

import numpy as np
import pandas as pd
import pytest
from lifelines.utils import concordance_index
from sklearn.linear_model import RidgeCV
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from sklearn.model_selection import cross_val_predict

from dml.demo.expression import HOMEOSTATIC, SUPPRESSORS, draw_expression, gene_groups, noise_genes
from dml.demo.factors import DemoConfig, draw_patients, draw_slide_factors
from dml.demo.oracle import classification_scores, concordance, score_planted_factors
from dml.demo.survival import (
    GRADES,
    RISK,
    diagnosis_probabilities,
    draw_survival,
    grade_probabilities,
    planted_risk,
)
from dml.demo.tables import build_patient_table, draw_missing

CONFIG = DemoConfig()
LARGE = DemoConfig(patients=3000)


@pytest.fixture(scope="module")
def planted() -> pd.DataFrame:
    return draw_patients(CONFIG)


@pytest.fixture(scope="module")
def many() -> pd.DataFrame:
    return draw_patients(LARGE)


def slow_concordance(days: np.ndarray, event: np.ndarray, risk: np.ndarray) -> tuple[float, int]:
    concordant = pairs = 0.0
    for i in range(len(days)):
        for j in range(len(days)):
            if event[i] and (days[i] < days[j] or (days[i] == days[j] and not event[j])):
                pairs += 1
                concordant += 1.0 if risk[i] > risk[j] else 0.5 if risk[i] == risk[j] else 0.0
    return concordant / pairs, int(pairs)


def test_factors_are_standard_uncorrelated_and_independent_of_site(many: pd.DataFrame) -> None:
    for factor in ("tumor", "tme"):
        assert many[factor].mean() == pytest.approx(0, abs=1e-9)
        assert many[factor].std(ddof=0) == pytest.approx(1)
        assert many.groupby("site")[factor].mean().abs().max() < 0.1
    assert np.corrcoef(many["tumor"], many["tme"])[0, 1] == pytest.approx(0, abs=1e-9)


def test_counts_are_as_declared(planted: pd.DataFrame) -> None:
    assert len(planted) == 80
    assert planted["patient_id"].is_unique
    assert planted["site"].value_counts().tolist() == [27, 27, 26]
    slides = draw_slide_factors(CONFIG, planted)
    assert len(slides) == 100
    assert slides["slide_id"].is_unique
    for factor, declared in zip(("tumor", "tme"), CONFIG.slide_noise, strict=True):
        noise = slides[factor].to_numpy() - planted.set_index("patient_id")[factor][slides["patient_id"]].to_numpy()
        assert noise.std() == pytest.approx(declared, rel=0.25)


def test_an_ideal_reader_gains_from_reading_both() -> None:
    """Observations with the declared noise, weighed by their reliability; the true coefficients."""
    slide, genes = (np.square(noise) for noise in (CONFIG.slide_noise, CONFIG.expression_noise))
    rows = []
    for seed in range(60):
        rng, config = np.random.default_rng(seed), DemoConfig(seed=seed, missing=0.0)
        planted = draw_patients(config)
        table, factors = draw_survival(config, planted), planted[["tumor", "tme"]].to_numpy()
        on_slide, expressed = (factors + rng.normal(0, np.sqrt(v), factors.shape) for v in (slide, genes))
        both = (on_slide / slide + expressed / genes) / (1 + 1 / slide + 1 / genes)
        weights = np.array([RISK["tumor"], RISK["tme"]])
        days, event = table["survival_days"].to_numpy(), table["event"].to_numpy()
        readings = (both, on_slide / (1 + slide), expressed / (1 + genes))
        rows.append([concordance(days, event, reading @ weights) for reading in readings])
    both_sources, *single = np.array(rows).T
    assert both_sources.mean() > np.mean(single) + 0.02
    assert (both_sources > np.maximum(*single)).mean() > 0.8


def test_missing_entries_are_as_declared_and_of_different_patients(planted: pd.DataFrame) -> None:
    table = build_patient_table(CONFIG, planted)
    missing = table[["survival_days", "grade", "diagnosis"]].isna()
    assert missing.sum().tolist() == [6, 6, 6]
    assert missing.sum(axis=1).max() == 1
    assert (table["event"].isna() == table["survival_days"].isna()).all()
    assert draw_missing(CONFIG, planted, "expression", CONFIG.without_expression).sum() == 8
    assert table[["site", "age", "sex"]].notna().all(axis=None)


@pytest.mark.parametrize("seed", [7, 1, 2, 3])
def test_survival_is_censored_as_declared_and_the_oracle_is_good_not_perfect(seed: int) -> None:
    config = DemoConfig(seed=seed, missing=0.0)
    planted = draw_patients(config)
    table = build_patient_table(config, planted)
    assert 1 - table["event"].mean() == pytest.approx(0.4)
    assert (table["survival_days"] >= 1).all()
    assert 0.77 < score_planted_factors(planted, table)["c_index"] < 0.90


def test_every_cause_of_death_raises_the_hazard(many: pd.DataFrame) -> None:
    table = build_patient_table(LARGE, many)
    truth = score_planted_factors(many, table)
    assert 0.80 < truth["c_index"] < 0.86
    assert truth["c_index_with_age"] > truth["c_index"] > truth["c_index_tumor"] > truth["c_index_tme"] > 0.6
    has_follow_up = table["survival_days"].notna()
    days, event, age = (x[has_follow_up].to_numpy(float) for x in (table["survival_days"], table["event"], many["age"]))
    assert concordance(days, event, age) > 0.52


def test_oracle_c_index_is_the_slow_pair_count_and_lifelines(planted: pd.DataFrame) -> None:
    table = build_patient_table(CONFIG, planted)
    has_follow_up = table["survival_days"].notna().to_numpy()
    days, event = (table.loc[has_follow_up, c].to_numpy(float) for c in ("survival_days", "event"))
    risk = planted_risk(planted)[has_follow_up]
    slow, pairs = slow_concordance(days, event, risk)
    assert pairs > 1000
    assert score_planted_factors(planted, table)["c_index"] == pytest.approx(slow, abs=1e-12)
    assert slow == pytest.approx(concordance_index(days, -risk, event), abs=1e-12)


def test_concordance_of_named_cases() -> None:
    # comparable: (1, 2), (1, 3), (2, 3); a tie in risk counts a half; a death and a censoring of one day compare
    assert concordance([1, 2, 3], [1, 1, 0], [3, 2, 1]) == 1.0
    assert concordance([1, 2, 3], [1, 1, 0], [3, 1, 1]) == pytest.approx(2.5 / 3)
    assert concordance([2, 2], [1, 0], [1, 0]) == 1.0
    assert np.isnan(concordance([2, 2], [1, 1], [1, 0]))
    assert np.isnan(concordance([1, 2], [0, 1], [1, 0]))


def test_labels_follow_their_probabilities(many: pd.DataFrame) -> None:
    table = build_patient_table(LARGE, many)
    for name, probabilities in (
        ("grade", grade_probabilities(many)),
        ("diagnosis", diagnosis_probabilities(many)),
    ):
        assert probabilities.min() >= 0
        np.testing.assert_allclose(probabilities.sum(axis=1), 1)
        shares = table[name].value_counts(normalize=True)
        assert shares.min() > 0.2
        assert sorted(shares.to_numpy()) == pytest.approx(sorted(probabilities.mean(axis=0)), abs=0.03)
    both = table.dropna()
    assert set(both.loc[both["diagnosis"] == "glioblastoma", "grade"]) == {"G4"}
    assert "G4" not in set(both.loc[both["diagnosis"] == "oligodendroglioma", "grade"])


def test_oracle_of_grade_is_that_of_scikit_learn(planted: pd.DataFrame) -> None:
    table = build_patient_table(CONFIG, planted)
    has_label = table["grade"].notna().to_numpy()
    label = np.array([GRADES.index(grade) for grade in table.loc[has_label, "grade"]])
    probabilities = grade_probabilities(planted)[has_label]
    scores = classification_scores(probabilities, label)
    assert scores == score_planted_factors(planted, table)["grade"]
    auc = np.mean([roc_auc_score(label == k, probabilities[:, k]) for k in range(3)])
    assert scores["auc"] == pytest.approx(auc)
    assert scores["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(label, probabilities.argmax(axis=1)))


def test_gene_groups_are_real_disjoint_and_large_enough() -> None:
    groups, noise = gene_groups(), noise_genes()
    assert 40 <= len(groups["tumor"]) <= 60
    assert 60 <= len(groups["tme"]) <= 90
    genes = [*groups["tumor"], *groups["tme"], *noise]
    assert len(genes) == len(set(genes))
    assert 180 <= len(noise) <= 220
    assert set(groups["tumor"]) > SUPPRESSORS
    assert set(groups["tme"]) > HOMEOSTATIC


def test_each_group_loads_on_its_factor_only_and_noise_on_none(planted: pd.DataFrame) -> None:
    table = draw_expression(CONFIG, planted)
    assert table.to_numpy().min() >= 0
    correlation = {f: table.corrwith(pd.Series(planted[f].to_numpy(), table.index)) for f in ("tumor", "tme")}
    for factor, other in (("tumor", "tme"), ("tme", "tumor")):
        genes = [g for g in gene_groups()[factor] if g not in SUPPRESSORS | HOMEOSTATIC]
        assert correlation[factor][genes].median() > 0.5
        assert abs(correlation[other][genes].median()) < 0.15
    assert (correlation["tumor"][list(SUPPRESSORS)] < 0).all()
    noise = correlation["tumor"][list(noise_genes())].abs()
    assert noise.median() < 0.15


@pytest.mark.parametrize(("factor", "noise"), list(zip(("tumor", "tme"), CONFIG.expression_noise, strict=True)))
def test_genes_tell_the_factors_as_far_as_declared(planted: pd.DataFrame, factor: str, noise: float) -> None:
    table = draw_expression(CONFIG, planted)
    truth = planted[factor].to_numpy()
    predicted = cross_val_predict(RidgeCV(np.logspace(1, 4, 7)), table - table.mean(), truth, cv=5)
    explained = 1 - ((truth - predicted) ** 2).sum() / (truth**2).sum()
    assert explained == pytest.approx(1 / (1 + noise**2), abs=0.08)
