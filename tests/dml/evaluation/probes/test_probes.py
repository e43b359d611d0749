"""The probes on models whose behaviour is known: the planted cohort shows the tumor factor in slide and genes, TME only
in genes."""

from dataclasses import replace

import numpy as np
import pytest

from dml.evaluation.probes.fold_models import predicted, views
from dml.evaluation.probes.modalities import exchanged, hidden, missing_modality
from dml.evaluation.probes.permutation_test import shuffled, shuffled_labels
from dml.evaluation.probes.site import site_probe
from dml.evaluation.probes.subspaces import subspaces
from dml.evaluation.probes.suite import trainings
from tests.dml.evaluation.probes.conftest import PARAMS, splits

pytestmark = pytest.mark.slow


def test_hiding_nothing_and_everything_are_the_plain_predictions(subjects, judge):
    curve = missing_modality(subjects, judge, (0.0, 0.5, 1.0), 3, 0)["teacher"]
    plain, without = judge.metric(predicted(subjects, "teacher")), judge.metric(predicted(subjects, "teacher", hidden))
    assert curve[0]["value"] == judge.value(plain)["value"]
    assert curve[2]["value"] == judge.value(without)["value"]
    assert curve[0]["lost"]["difference"] == 0
    assert curve[2]["lost"]["difference"] < 0


def test_a_model_that_uses_a_modality_is_worse_with_that_of_another(subjects, judge):
    found = exchanged(subjects, judge, 4, 0)
    assert set(found) == {"teacher", "student"}
    assert set(found["student"]) == {"slides"}
    assert found["teacher"]["genes"]["lost"]["ci_high"] < 0
    assert abs(found["student"]["slides"]["other"]["value"] - 0.5) < 0.12


def test_nobody_keeps_its_own_when_exchanged(subjects):
    from dml.evaluation.probes.modalities import _exchange

    test = subjects[0].test
    for modality in ("genes", "slides"):
        changed = _exchange(modality, np.random.SeedSequence(0))(test, 0)
        for before, after in zip(test.cases, changed.cases, strict=True):
            assert before.patient_id == after.patient_id
            assert (before.expression is after.expression) == (modality == "slides")
            assert (before.bags is after.bags) == (modality == "genes")


def test_teacher_tokens_know_their_own_genes(subjects, judge, planted):
    seen = {model: views(subjects, model) for model in ("teacher", "student")}
    found = subspaces(seen, judge, 2, planted)
    for kind in ("genes", "planted"):
        for target in ("tumor", "tme"):
            assert found["teacher"][kind][target]["own_minus_other"]["ci_low"] > 0, (kind, target)
            assert found["teacher"][kind][target][target]["value"] > 0.5
    assert found["student"]["planted"]["tme"]["tme"]["value"] < 0.3  # slides do not show the TME factor
    assert -0.2 < found["teacher"]["distance_correlation"]["value"] < 1


def test_where_nobody_has_a_transcriptome_nothing_is_said_of_genes(subjects, judge):
    bare = [replace(s, learning=hidden(s.learning, 0), test=hidden(s.test, 0)) for s in subjects]
    assert set(exchanged(bare, judge, 1, 0)["teacher"]) == {"slides"}
    found = subspaces({"teacher": views(bare, "teacher")}, judge, 2, None)
    assert found["teacher"]["genes"] == {}
    assert found["teacher"]["distance_correlation"]["value"] is not None


def test_a_site_that_shows_is_told_and_one_that_does_not_is_not(subjects, judge):
    seen = {model: views(subjects, model) for model in ("teacher", "student")}
    nothing = site_probe(subjects, seen, judge, "survival", 5)
    assert nothing["told_from"]["input"]["auc"]["ci_low"] < 0.5 < nothing["told_from"]["input"]["auc"]["ci_high"] + 0.1
    stained = [replace(s, learning=_stained(s.learning), test=_stained(s.test)) for s in subjects]
    told = site_probe(stained, {m: views(stained, m) for m in seen}, judge, "survival", 5)["told_from"]
    assert told["input"]["auc"]["value"] > 0.95


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


def test_too_few_patients_of_every_site_leave_a_reason(subjects, judge):
    seen = {model: views(subjects, model) for model in ("teacher", "student")}
    assert "fewer than two sites" in site_probe(subjects, seen, judge, "survival", 1000)["left_out"]


def test_members_are_judged_one_by_one(subjects, judge):
    found = trainings(subjects, judge)["teacher"]
    assert len(found["values"]) == 2
    assert found["sd"] == pytest.approx(np.std(found["values"], ddof=1), abs=1e-6)


def test_shuffling_deals_the_same_outcomes_out_to_others_and_spares_the_kept(data):
    keep = {case.patient_id for case in data.cases[:20]}
    dealt = shuffled(data, keep, "survival", (0, 1))
    before, after = ([case.survival for case in part.cases] for part in (data, dealt))
    assert after[:20] == before[:20]
    assert sorted(s.days for s in after) == sorted(s.days for s in before)
    assert sum(a is b for a, b in zip(after[20:], before[20:], strict=True)) < 10
    assert all(a.bags is b.bags for a, b in zip(data.cases, dealt.cases, strict=True))


def test_models_trained_on_shuffled_outcomes_know_nothing(data):
    quick = PARAMS.model_copy(update={"optimisation": PARAMS.optimisation.model_copy(update={"epochs": 3})})
    found = shuffled_labels(data, splits(data), quick, "survival", 2)
    assert len(found["trainings"]) == 4
    assert found["ci_low"] < found["value"] < found["ci_high"]
    assert abs(found["value"] - 0.5) < 0.2
    assert found["passed"] == (found["ci_low"] <= 0.5 <= found["ci_high"])
