"""Planted cohorts against closed forms; no leak from the tested; refusals."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.integrate import quad
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from dml.core.errors import InputError
from dml.teachability.analysis import analyse
from dml.teachability.cross_fit import CrossFit
from dml.teachability.fold_patients import TooFewPatients, divide
from dml.teachability.protocols import has_unseen_sites
from dml.teachability.verdict import decide, sentence


def measure(data, settings, task="survival", **changes):
    return analyse(replace(data.cohort, **changes), data.splits, data.patients, settings, task)


def risk_of(result, protocol="patients", name="gene risk"):
    risks = result.summary["protocols"][protocol]["associations"]["risk"]["targets"]
    return next(risk for risk in risks if risk["name"] == name)


def gaps_of(result, protocol="patients", group="all"):
    return result.summary["protocols"][protocol]["gaps"][group]


def concordance(correlation: float, effect: float = 1.0) -> float:
    """C of a score of some correlation with a normal factor whose log hazard ratio is `effect`, not censored.

    The difference of two patients' factors is sqrt(2) z; the one of higher hazard dies first with probability
    logistic(effect sqrt(2) z); the score has its sign with probability Phi(r z / sqrt(1 - r^2)).
    """
    if correlation == 1:
        return 2 * quad(lambda z: norm.pdf(z) / (1 + np.exp(-effect * np.sqrt(2) * z)), 0, 9)[0]
    slope = correlation / np.sqrt(1 - correlation**2)
    return 2 * quad(lambda z: norm.pdf(z) / (1 + np.exp(-effect * np.sqrt(2) * z)) * norm.cdf(slope * z), -9, 9)[0]


@pytest.fixture(scope="module")
def half(plant, settings):
    return measure(plant(0.5, patients=480), settings)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_r_r2_and_information_are_those_of_two_normal_variables(plant, once, share):
    data = plant(share, patients=800)
    result = risk_of(measure(data, once))
    assert result["r2"]["value"] == pytest.approx(data.correlation**2, abs=0.04)
    assert result["r"]["value"] == pytest.approx(data.correlation if share else 0, abs=0.02 if share else 0.1)
    assert result["r2"]["ci_low"] - 0.02 < share < result["r2"]["ci_high"] + 0.02
    if share < 1:
        assert result["nats"]["value"] == pytest.approx(-0.5 * np.log(1 - share), abs=0.06)


def test_half_told_the_arms_have_the_concordance_of_the_closed_form(plant, once):
    gaps = gaps_of(measure(plant(0.5, patients=1200), once))
    arms = gaps["arms"]
    for arm, correlation in {"slide": np.sqrt(0.5), "slide_predicted": np.sqrt(0.5), "slide_genes": 1.0}.items():
        assert arms[arm]["value"] == pytest.approx(concordance(correlation), abs=0.025), arm
    gap = concordance(1.0) - concordance(np.sqrt(0.5))
    assert gaps["gap"]["difference"] == pytest.approx(gap, abs=0.02)
    assert gaps["gap"]["ci_low"] < gap < gaps["gap"]["ci_high"]
    assert gaps["residual"]["difference"] == pytest.approx(gap, abs=0.02)  # a slide reads its part from outcomes alone


def test_where_outcomes_are_few_the_genes_teach_what_outcomes_could_not(plant, once):
    """All of the genes is in the slide, but few patients died: the gene risk is regressed on all pairs."""
    data = plant(1.0, patients=600, effect=0.7)
    rng = np.random.default_rng(0)
    wide = rng.normal(size=(600, 60))
    cases = []
    for i, case in enumerate(data.cohort.cases):
        bag = next(iter(case.bags.values()))
        tokens = np.concatenate([bag.tokens.numpy(), wide[i : i + 1]], axis=1)
        bags = {mpp: replace(b, tokens=type(b.tokens)(tokens.astype(np.float32))) for mpp, b in case.bags.items()}
        survival = replace(case.survival, event=i % 8 == 0)
        cases.append(replace(case, bags=bags, survival=survival))
    components = once.baselines.model_copy(update={"components": 60})
    gaps = gaps_of(measure(data, once.model_copy(update={"baselines": components}), cases=tuple(cases)))
    assert gaps["gap"]["ci_low"] > 0
    assert gaps["teachable"]["difference"] == pytest.approx(gaps["gap"]["difference"], abs=0.03)
    assert decide(gaps) == "pays"


def test_all_told_leaves_no_gap(plant, once):
    gaps = gaps_of(measure(plant(1.0), once))
    assert gaps["gap"]["difference"] == pytest.approx(0, abs=0.01)
    assert gaps["arms"]["slide"]["value"] == pytest.approx(concordance(1.0), abs=0.02)


@pytest.mark.parametrize("task", ["survival", "grade"])
def test_nothing_told_is_a_gap_that_cannot_be_taught(plant, once, task):
    result = measure(plant(0.0), once, task)
    gaps = gaps_of(result)
    assert gaps["arms"]["slide"]["value"] == pytest.approx(0.5, abs=0.05)
    assert gaps["gap"]["ci_low"] > 0.1
    assert abs(gaps["teachable"]["difference"]) < 0.03
    assert gaps["teachable_share"]["ci_low"] <= 0.0 <= gaps["teachable_share"]["ci_high"] + 0.05
    assert decide(gaps) in ("too little", "undecided")
    assert "Distillation can pay" not in sentence(result.summary, "patients")


def test_the_parts_sum_to_the_gap(half):
    for protocol in ("patients", "sites"):
        gaps = gaps_of(half, protocol)
        total = gaps["teachable"]["difference"] + gaps["residual"]["difference"]
        assert total == pytest.approx(gaps["gap"]["difference"], abs=2e-6)


def test_classes_have_the_area_of_the_best_score(plant, once):
    """The label is drawn from the logistic of the factor: the best scores are the slide's column, and the factor."""
    data = plant(0.5)
    arms = gaps_of(measure(data, once, "grade"))["arms"]
    label = (data.patients["grade"] == "high").to_numpy()
    for arm, best in {"slide": data.shown, "slide_genes": data.factor}.items():
        assert arms[arm]["value"] == pytest.approx(roc_auc_score(label, best), abs=0.015), arm


def test_genes_sets_and_components_are_listed(half):
    associations = half.summary["protocols"]["patients"]["associations"]
    assert {kind: part["number"] for kind, part in associations.items()} == {
        "gene": 6, "gene set": 2, "component": 1, "risk": 2,
    }  # fmt: skip
    assert [target["name"] for target in associations["gene set"]["targets"]] != []
    assert associations["gene"]["median_r"]["value"] == pytest.approx(np.sqrt(0.5), abs=0.06)
    assert set(half.targets["protocol"]) == {"patients", "sites"}


def test_the_order_of_patients_does_not_matter(plant, settings):
    data = plant(0.5, patients=240)
    order = np.random.default_rng(1).permutation(240)
    cases = tuple(data.cohort.cases[i] for i in order)
    one = measure(data, settings)
    shuffled = data.splits.sample(frac=1, random_state=1)
    other = analyse(
        replace(data.cohort, cases=cases),
        shuffled,
        data.patients.iloc[order].reset_index(drop=True),
        settings,
        "survival",
    )
    assert one.summary == other.summary


@pytest.mark.parametrize("task", ["survival", "grade"])
def test_outcomes_and_genes_of_test_patients_reach_no_prediction(plant, settings, task):
    """Exchanged among the test patients, they change neither the arms that read the slide nor what is predicted."""
    data = plant(0.5, patients=240)
    tested = [i for i, role in enumerate(data.splits[data.splits["fold"] == 0]["role"]) if role == "test"]
    cases = list(data.cohort.cases)
    exchanged = dict(zip(tested, np.roll(tested, 7), strict=True))
    for i, j in exchanged.items():
        source = data.cohort.cases[j]
        cases[i] = replace(cases[i], survival=source.survival, labels=source.labels, expression=source.expression)
    results = []
    for cohort in (data.cohort, replace(data.cohort, cases=tuple(cases))):
        fit = CrossFit(
            cohort, _regression(cohort, task), settings.baselines, settings.teachability, {"all": cohort.genes}
        )
        fold = divide(cohort, data.splits, fit.regression.task.is_known)[0]
        results.append(fit.run(fold))
    one, other = results
    np.testing.assert_array_equal(one.genes.prediction, other.genes.prediction)
    np.testing.assert_array_equal(one.risks.prediction, other.risks.prediction)
    assert not np.array_equal(one.genes.target, other.genes.target)
    column = "risk" if task == "survival" else "p_high"
    for arm in ("slide", "predicted", "slide_predicted"):
        values = [result.rows.loc[result.rows["arm"] == arm, column].to_numpy() for result in results]
        np.testing.assert_array_equal(*values)


def _regression(cohort, task):
    from dml.baselines.linear.regression import make_regression

    return make_regression(task, cohort.classes, (1.0,))


def test_unseen_sites_are_not_learned_from(half, plant):
    data = plant(0.5, patients=480)
    rows = half.predictions[(half.predictions["protocol"] == "sites") & (half.predictions["arm"] == "slide")]
    assert rows.groupby("site")["fold"].nunique().max() == 1
    assert len(rows) == len(data.cohort.cases)
    assert not has_unseen_sites(data.splits, data.patients)


def test_folds_by_site_that_cannot_be_fitted_are_left_out_with_the_reason(plant, settings):
    """Everybody who died is of one site: the folds that test it learn from the living."""
    data = plant(0.5, patients=240)
    cases = tuple(replace(case, survival=replace(case.survival, event=case.site == "S3")) for case in data.cohort.cases)
    protocols = measure(data, settings, cases=cases).summary["protocols"]
    assert "gaps" in protocols["patients"]
    assert "none of its training patients died" in protocols["sites"]["left_out"]


def test_a_cohort_that_keeps_sites_together_has_one_protocol(plant, settings):
    data = plant(0.5, patients=240)
    site_fold = data.patients["site"].str[1:].astype(int) % 3
    fold_of = dict(zip(data.patients["patient_id"], site_fold, strict=True))
    tested = np.array([fold_of[p] == f for p, f in zip(data.splits["patient_id"], data.splits["fold"], strict=True)])
    inner = np.where(tested, -1, np.arange(len(tested)) % 4)
    splits = data.splits.assign(role=np.where(tested, "test", "train"), inner_fold=inner)
    result = analyse(data.cohort, splits, data.patients, settings, "survival")
    assert list(result.summary["protocols"]) == ["sites"]


def test_one_site_leaves_the_second_protocol_out(plant, settings):
    result = measure(plant(0.5, patients=240, sites=1), settings)
    assert "known sites" in result.summary["protocols"]["sites"]["left_out"]


def test_a_subgroup_has_its_own_gap(plant, settings):
    groups = {"first": {"half": ("first",)}, "nobody": {"half": ("third",)}}
    evaluation = settings.evaluation.model_copy(update={"subgroups": groups})
    result = measure(plant(0.5, patients=240), settings.model_copy(update={"evaluation": evaluation}))
    gaps = result.summary["protocols"]["patients"]["gaps"]
    assert gaps["first"]["patients"] == 120
    assert "fewer than" in gaps["nobody"]["left_out"]
    wrong = settings.evaluation.model_copy(update={"subgroups": {"x": {"stage": ("1",)}}})
    with pytest.raises(InputError, match="no column 'stage'"):
        measure(plant(0.5, patients=240), settings.model_copy(update={"evaluation": wrong}))


def test_no_pairs_are_refused_with_the_remedy(plant, settings):
    data = plant(0.5, patients=60)
    cases = tuple(replace(case, expression=None) for case in data.cohort.cases)
    with pytest.raises(TooFewPatients, match="no test patient has a slide, a transcriptome and a known outcome"):
        measure(data, settings, cases=cases)


def test_too_few_events_are_refused_with_their_number(plant, settings):
    data = plant(0.5, patients=60)
    cases = tuple(
        replace(case, survival=replace(case.survival, event=i < 6)) for i, case in enumerate(data.cohort.cases)
    )
    with pytest.raises(TooFewPatients, match=r"60 paired test patients with 6 deaths.*at least 20 and 10"):
        measure(data, settings, cases=cases)
    labels = tuple(replace(case, labels={"grade": "low"}) for case in data.cohort.cases)
    with pytest.raises(TooFewPatients, match="0 patients outside the most frequent class"):
        measure(data, settings, "grade", cases=labels)


def test_an_unknown_task_is_refused(plant, settings):
    with pytest.raises(InputError, match=r"unknown task 'stage'.*survival, grade"):
        measure(plant(0.5, patients=60), settings, "stage")


def test_patients_with_a_slide_only_train_the_slide_model_and_are_not_tested(plant, settings):
    data = plant(0.5, patients=240)
    cases = tuple(
        replace(case, expression=None if i % 5 == 0 else case.expression) for i, case in enumerate(data.cohort.cases)
    )
    result = measure(data, settings, cases=cases)
    rows = result.predictions[result.predictions["protocol"] == "patients"]
    assert rows["patient_id"].nunique() == 192
    assert isinstance(result.targets, pd.DataFrame)
