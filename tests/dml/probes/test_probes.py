"""The probes on models whose behaviour is known: the planted cohort shows the tumor factor in slide and genes, TME only
in genes."""

from dataclasses import replace

import numpy as np
import pytest

from dml.core.tasks import SurvivalTask
from dml.probes.fold_models import embed_folds, predict_folds
from dml.probes.modalities import drop_transcriptomes, exchange, exchange_modalities, hide_transcriptomes
from dml.probes.permutation_test import permute_outcomes, run_permutation_test
from dml.probes.site import probe_site
from dml.probes.subspaces import probe_subspaces
from dml.probes.suite import score_members
from tests.dml.probes.conftest import PARAMS, splits

pytestmark = pytest.mark.slow


def test_hiding_nothing_and_everything_are_the_plain_predictions(fold_models, scorer):
    curve = hide_transcriptomes(fold_models, scorer, (0.0, 0.5, 1.0), 3, 0)["teacher"]
    plain, without = (
        scorer.metric(predict_folds(fold_models, "teacher")),
        scorer.metric(predict_folds(fold_models, "teacher", drop_transcriptomes)),
    )
    assert curve[0]["value"] == scorer.value(plain)["value"]
    assert curve[2]["value"] == scorer.value(without)["value"]
    assert curve[0]["difference"]["difference"] == 0
    assert curve[2]["difference"]["difference"] < 0


def test_a_model_that_uses_a_modality_is_worse_with_that_of_another(fold_models, scorer):
    results = exchange_modalities(fold_models, scorer, 4, 0)
    assert set(results) == {"teacher", "student"}
    assert set(results["student"]) == {"slides"}
    assert results["teacher"]["genes"]["difference"]["ci_high"] < 0
    assert abs(results["student"]["slides"]["exchanged"]["value"] - 0.5) < 0.12


def test_every_patient_gets_the_modality_of_another(fold_models):
    test = fold_models[0].test
    for modality in ("genes", "slides"):
        changed = exchange(modality, np.random.SeedSequence(0))(test, 0)
        for before, after in zip(test.cases, changed.cases, strict=True):
            assert before.patient_id == after.patient_id
            assert (before.expression is after.expression) == (modality == "slides")
            assert (before.bags is after.bags) == (modality == "genes")


def test_teacher_tokens_explain_their_gene_groups(fold_models, scorer, planted):
    embeddings = {model: embed_folds(fold_models, model) for model in ("teacher", "student")}
    results = probe_subspaces(embeddings, scorer, 2, planted)
    for kind in ("genes", "planted"):
        for target in ("tumor", "tme"):
            assert results["teacher"][kind][target]["difference"]["ci_low"] > 0, (kind, target)
            assert results["teacher"][kind][target][target]["value"] > 0.5
    assert results["student"]["planted"]["tme"]["tme"]["value"] < 0.3  # slides do not show the TME factor
    assert -0.2 < results["teacher"]["distance_correlation"]["value"] < 1


def test_where_nobody_has_a_transcriptome_genes_are_not_probed(fold_models, scorer):
    bare = [
        replace(s, learning=drop_transcriptomes(s.learning, 0), test=drop_transcriptomes(s.test, 0))
        for s in fold_models
    ]
    assert set(exchange_modalities(bare, scorer, 1, 0)["teacher"]) == {"slides"}
    results = probe_subspaces({"teacher": embed_folds(bare, "teacher")}, scorer, 2, None)
    assert results["teacher"]["genes"] == {}
    assert results["teacher"]["distance_correlation"]["value"] is not None


def test_a_site_is_predicted_only_if_it_shows(fold_models, scorer):
    embeddings = {model: embed_folds(fold_models, model) for model in ("teacher", "student")}
    nothing = probe_site(fold_models, embeddings, scorer, 5)
    assert nothing["sources"]["input"]["auc"]["ci_low"] < 0.5 < nothing["sources"]["input"]["auc"]["ci_high"] + 0.1
    stained = [replace(s, learning=_stained(s.learning), test=_stained(s.test)) for s in fold_models]
    sources = probe_site(stained, {m: embed_folds(stained, m) for m in embeddings}, scorer, 5)["sources"]
    assert sources["input"]["auc"]["value"] > 0.95


def _stained(cohort):
    """Each site adds to its own token dimension."""
    cases = []
    for case in cohort.cases:
        own = 3 + int(case.site[1:])
        pyramid = {}
        for mpp, bag in case.bags.items():
            tokens = bag.tokens.clone()
            tokens[:, own] += 5.0
            pyramid[mpp] = replace(bag, tokens=tokens)
        cases.append(replace(case, bags=pyramid))
    return replace(cohort, cases=tuple(cases))


def test_too_few_patients_of_every_site_leave_a_reason(fold_models, scorer):
    embeddings = {model: embed_folds(fold_models, model) for model in ("teacher", "student")}
    assert "fewer than two sites" in probe_site(fold_models, embeddings, scorer, 1000)["left_out"]


def test_members_are_scored_one_by_one(fold_models, scorer):
    results = score_members(fold_models, scorer)["teacher"]
    assert len(results["values"]) == 2
    assert results["sd"] == pytest.approx(np.std(results["values"], ddof=1), abs=1e-6)


def test_outcomes_are_permuted_among_all_but_the_unchanged(data):
    unchanged = {case.patient_id for case in data.cases[:20]}
    permuted = permute_outcomes(data, unchanged, SurvivalTask(), (0, 1))
    before, after = ([case.survival for case in part.cases] for part in (data, permuted))
    assert after[:20] == before[:20]
    assert sorted(s.days for s in after) == sorted(s.days for s in before)
    assert sum(a is b for a, b in zip(after[20:], before[20:], strict=True)) < 10
    assert all(a.bags is b.bags for a, b in zip(data.cases, permuted.cases, strict=True))


def test_models_trained_on_permuted_outcomes_are_at_chance(data):
    quick = PARAMS.model_copy(update={"optimisation": PARAMS.optimisation.model_copy(update={"epochs": 3})})
    results = run_permutation_test(data, splits(data), quick, "survival", 2)
    assert len(results["trainings"]) == 4
    assert results["ci_low"] < results["value"] < results["ci_high"]
    assert abs(results["value"] - 0.5) < 0.2
    assert results["passed"] == (results["ci_low"] <= 0.5 <= results["ci_high"])
