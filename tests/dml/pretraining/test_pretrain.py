"""Pretraining on pairs of several cohorts: what it learns, from whom, and what starts from it."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from dml.core.errors import ConfigError, InputError
from dml.core.files import digest
from dml.core.types import SUBSPACES, Cohort, Mpp
from dml.models.initial_weights import load_matching
from dml.models.student import Student
from dml.models.teacher import Teacher
from dml.pretraining.balanced_clusters import balanced_assignments, clustering_loss
from dml.pretraining.contrast import PairQueue, contrast_loss, info_nce
from dml.pretraining.held_out import measure
from dml.pretraining.network import PairEncoding, PretrainingNetwork
from dml.pretraining.pairs import align, make_pairs
from dml.pretraining.pretrain import PairTrainer, fit_components, pretrain
from dml.pretraining.pretrained import Pretrained
from dml.pretraining.site_signal import compare_site_signal
from dml.training.train import distill_student, train_teacher
from tests.synthetic import PARAMS, TUMOR, change, cohort, fold, splits

SMALL = change(
    PARAMS,
    pretraining={"cohorts": ("other",), "epochs": 8, "batch_size": 16, "learning_rate": 3e-3, "queue": 32},
)
DATA = cohort(40)
TEST = set(splits(DATA).query("role == 'test'")["patient_id"])


def renamed(data: Cohort, name: str = "other") -> Cohort:
    return replace(data, name=name, cases=tuple(replace(c, patient_id=f"{name}-{c.patient_id}") for c in data.cases))


OTHER = renamed(cohort(120, seed=5))


def mixed_slides(data: Cohort) -> Cohort:
    """Each patient with the slide of another: nothing to learn."""
    bags = [case.bags for case in data.cases]
    cases = tuple(replace(c, bags=b) for c, b in zip(data.cases, [*bags[7:], *bags[:7]], strict=True))
    return replace(data, cases=cases)


def trainer(params=SMALL) -> tuple[PairTrainer, list]:
    pairs = make_pairs(fold(DATA), [OTHER], params, TEST)
    programs = fit_components(pairs, params.pretraining.components)
    network = PretrainingNetwork(pairs.preprocessors[0].dims, params, {s: len(programs[s].mean) for s in SUBSPACES})
    return PairTrainer(network, pairs.preprocessors, programs, params), pairs.training


@pytest.fixture(scope="module")
def learned() -> Pretrained:
    return pretrain(fold(DATA), [OTHER], SMALL, TEST)


def test_both_arms_fall(learned: Pretrained) -> None:
    first, last = learned.report["history"][0], learned.report["history"][-1]
    assert len(learned.report["history"]) == SMALL.pretraining.epochs, "all epochs, nothing is selected"
    assert last["expression"] < 0.8 * first["expression"]
    assert last["contrast"] < first["contrast"]


def test_a_relation_in_another_cohort_helps_on_held_out_patients() -> None:
    """Of the own cohort only the held-out patients have expression: all that is learned is from the other one."""
    data = cohort(100)
    held_out = {case.patient_id for case in fold(data).validation(0).cases}
    data = replace(
        data, cases=tuple(c if c.patient_id in held_out else replace(c, expression=None) for c in data.cases)
    )
    right, wrong = (pretrain(fold(data), [other], SMALL, TEST).report for other in (OTHER, mixed_slides(OTHER)))
    assert right["pairs"] == {"synthetic": 0, "other": 120}
    for fit in (right["held_out"], right["held_out"]["linear"]["all_cohorts"]):
        assert fit["tumor"]["r"][0] > 0.7, "the mean of the tumor genes is in the slide"
        assert fit["tumor"]["r2"][0] > 0.4
        assert fit["tme"]["r2"][0] < 0.2, "the microenvironment factor is in no slide"
    for fit in (wrong["held_out"], wrong["held_out"]["linear"]["all_cohorts"]):
        assert fit["tumor"]["r2"][0] < 0.2
    assert right["held_out"]["patients"] == 20
    assert right["held_out"]["retrieval"]["slide_to_genes"] > right["held_out"]["retrieval"]["chance"] + 0.2
    assert "own_cohort" not in right["held_out"]["linear"], "no pair of its own to learn from"
    assert right["predictability"]["tumor"][0] > 5 * right["predictability"]["tme"][0]


def test_no_outcome_is_read(learned: Pretrained) -> None:
    def censored(data: Cohort) -> Cohort:
        cases = tuple(replace(c, survival=None, labels={}, values={}, covariates={}) for c in data.cases)
        return replace(data, cases=cases)

    again = pretrain(fold(censored(DATA)), [censored(OTHER)], SMALL, TEST)
    assert again.report == learned.report
    assert all(torch.equal(again.weights[name], value) for name, value in learned.weights.items())


def test_test_patients_are_never_read_even_where_another_cohort_has_them(learned: Pretrained) -> None:
    poison = tuple(
        replace(c, patient_id=p, expression=np.full(len(c.expression), 1e6, np.float32))
        for c, p in zip(OTHER.cases, TEST, strict=False)
    )
    learning_too = tuple(replace(c, expression=c.expression + 9) for c in fold(DATA).learning.cases)
    dirty = replace(OTHER, cases=(*OTHER.cases, *poison, *learning_too))
    again = pretrain(fold(DATA), [dirty], SMALL, TEST)
    assert again.report["pairs"] == {"synthetic": 24, "other": 120}
    assert all(torch.equal(again.weights[name], value) for name, value in learned.weights.items())


def test_a_fold_with_a_test_patient_is_refused() -> None:
    with pytest.raises(AssertionError, match="test patient"):
        make_pairs(fold(DATA), [OTHER], SMALL, {fold(DATA).learning.cases[0].patient_id})


def test_held_out_patients_do_not_change_what_is_learned_but_for_scaling() -> None:
    pairs = make_pairs(fold(DATA), [OTHER], SMALL, TEST)
    held_out = {pair.patient.patient_id for pair in pairs.held_out}
    assert held_out == {c.patient_id for c in fold(DATA).validation(0).cases}
    assert held_out.isdisjoint(pair.patient.patient_id for pair in pairs.training)


def test_each_cohort_is_scaled_within_itself_and_genes_are_aligned_by_symbol() -> None:
    order = np.random.default_rng(0).permutation(len(OTHER.genes))
    moved = replace(
        OTHER,
        genes=tuple(OTHER.genes[i] for i in order),
        unit="counts",
        cases=tuple(replace(c, expression=100 + 7 * c.expression[order]) for c in OTHER.cases),
    )
    plain, shifted = (make_pairs(fold(DATA), [other], SMALL, TEST) for other in (OTHER, moved))
    for a, b in zip(plain.training, shifted.training, strict=True):
        np.testing.assert_allclose(a.patient.tumor, b.patient.tumor, atol=1e-4)
        np.testing.assert_allclose(a.patient.tme, b.patient.tme, atol=1e-4)
    values = np.array([p.patient.tumor for p in plain.training if p.cohort == 1])
    np.testing.assert_allclose(values.mean(0), 0, atol=1e-5)


def test_a_gene_that_a_cohort_lacks_is_constant_there() -> None:
    fewer = replace(
        OTHER, genes=OTHER.genes[1:], cases=tuple(replace(c, expression=c.expression[1:]) for c in OTHER.cases)
    )
    aligned = align(fewer, DATA.groups)
    assert aligned.genes == (*DATA.groups.tumor, *DATA.groups.tme)
    assert {float(c.expression[0]) for c in aligned.cases} == {0.0}
    pairs = make_pairs(fold(DATA), [fewer], SMALL, TEST)
    assert not np.array([p.patient.tumor[0] for p in pairs.training if p.cohort == 1]).any()


def wider(data: Cohort) -> Cohort:
    cases = tuple(
        replace(c, bags={m: replace(b, tokens=torch.cat([b.tokens, b.tokens], 1)) for m, b in c.bags.items()})
        for c in data.cases
    )
    return replace(data, cases=cases)


def without_fine_tiles(data: Cohort) -> Cohort:
    cases = tuple(replace(c, bags={m: b for m, b in c.bags.items() if m != Mpp(0.5)}) for c in data.cases)
    return replace(data, cases=cases)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            wider(OTHER),
            "cohort other: tokens at mpp 0.5 are fake, 24 wide.*those of synthetic: fake, 12 wide.*embed.encoder",
        ),
        (without_fine_tiles(OTHER), "cohort other: tokens at mpp 0.5 are absent"),
        (replace(OTHER, genes=tuple(f"X{i}" for i in range(12))), "cohort other: it measures 0 of the 5 tumor genes"),
        (replace(OTHER, cases=()), "cohort other: no patient has slide and expression"),
    ],
)
def test_a_cohort_that_does_not_fit_is_refused_by_name(other: Cohort, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_pairs(fold(DATA), [other], SMALL, TEST)


@pytest.mark.parametrize("arm", ["expression", "contrast", "clustering"])
def test_gradients_of_each_arm_reach_its_parameters_and_no_others(arm: str) -> None:
    weights = {f"{name}_weight": float(name == arm) for name in ("expression", "contrast", "clustering")}
    training, pairs = trainer(change(SMALL, pretraining=weights))
    losses = training.losses(pairs[:24], PairQueue(0))
    assert set(losses) == {arm}
    losses[arm].backward()
    reached = {n for n, p in training.network.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert {"student.project.project.weight", "student.aggregate.queries.tumor"} <= reached
    assert not any(name.startswith("student.head") for name in reached), "nothing has to do with a task"
    parts = {
        "predict.tumor": arm == "expression",
        "match_slide.tumor": arm != "expression",
        "match_genes.tme": arm != "expression",
        "genes.measured.tme": arm != "expression",
        "log_scale": arm == "contrast",
        "prototypes.tme": arm == "clustering",
    }
    assert {part: any(name.startswith(part) for name in reached) for part in parts} == parts


def test_clusters_have_equal_mass_and_agreement_costs_least() -> None:
    g = torch.Generator().manual_seed(0)
    assigned = balanced_assignments(torch.rand(64, 4, generator=g) + torch.tensor([0.5, 0.0, 0.0, 0.0]))
    torch.testing.assert_close(assigned.sum(1), torch.ones(64))
    torch.testing.assert_close(assigned.sum(0), torch.full((4,), 16.0), atol=1.0, rtol=0.0)
    prototypes = {"tumor": torch.eye(4)}
    vectors = torch.eye(4).repeat(4, 1)
    same, other = (PairEncoding({}, {"tumor": vectors}, {"tumor": genes}) for genes in (vectors, vectors.roll(1, 0)))
    assert clustering_loss(same, prototypes).item() == pytest.approx(math.log1p(3 * math.exp(-10)), abs=1e-4)
    assert clustering_loss(other, prototypes).item() == pytest.approx(10.0, abs=1e-2)


def test_the_clustering_arm_falls_and_is_absent_when_off(learned: Pretrained) -> None:
    history = pretrain(fold(DATA), [OTHER], change(SMALL, pretraining={"clustering_weight": 1.0}), TEST).report[
        "history"
    ]
    assert history[-1]["clustering"] < history[0]["clustering"]
    assert set(learned.report["history"][0]) == {"epoch", "expression", "contrast"}


def test_info_nce_is_the_cross_entropy_over_other_patients() -> None:
    g = torch.Generator().manual_seed(0)
    q, c = (functional.normalize(torch.randn(n, 6, generator=g), dim=1) for n in (4, 9))
    numbers, candidate_numbers = torch.tensor([0, 1, 2, 1]), torch.tensor([0, 1, 2, 1, 5, 0, 6, 2, 7])
    expected = []
    for i in range(4):
        allowed = [j for j in range(9) if j == i or candidate_numbers[j] != numbers[i]]
        scores = [math.exp(3.0 * float(q[i] @ c[j])) for j in allowed]
        expected.append(-math.log(math.exp(3.0 * float(q[i] @ c[i])) / sum(scores)))
    value = info_nce(q, c, numbers, candidate_numbers, torch.tensor(3.0))
    assert float(value) == pytest.approx(np.mean(expected), rel=1e-5)


def test_the_queue_holds_the_latest_pairs_without_gradient_and_widens_the_choice() -> None:
    def encoding(seed: int) -> PairEncoding:
        g = torch.Generator().manual_seed(seed)
        slide, genes = ({"tumor": functional.normalize(torch.randn(3, 4, generator=g), dim=1)} for _ in range(2))
        slide["tumor"].requires_grad_()
        return PairEncoding({}, slide, genes)

    queue = PairQueue(4)
    queue.push(encoding(0), torch.tensor([0, 1, 2]))
    queue.push(encoding(1), torch.tensor([3, 4, 5]))
    assert queue.numbers.tolist() == [2, 3, 4, 5]
    assert torch.equal(queue.slide["tumor"][1:], encoding(1).slide["tumor"])
    assert not queue.slide["tumor"].requires_grad
    new, scale = encoding(2), torch.tensor(5.0)
    others, alone = torch.tensor([7, 8, 9]), contrast_loss(new, torch.tensor([7, 8, 9]), PairQueue(4), scale)
    assert contrast_loss(new, others, queue, scale).item() > alone.item(), "more to tell apart"
    same = PairQueue(4)
    same.push(new, torch.tensor([7, 8, 9]))
    blind = torch.tensor([7, 7, 7])
    assert contrast_loss(new, blind, same, scale).item() > 0, "the past pairs of others are negatives"
    same.numbers = blind
    assert contrast_loss(new, blind, same, scale).item() == pytest.approx(0), "those of the same patient are not"


def test_numbers_of_held_out_pairs_against_closed_forms() -> None:
    g = torch.Generator().manual_seed(0)
    target = torch.randn(40, 3, generator=g)
    eye = torch.eye(40)
    perfect = PairEncoding({"tumor": target}, {"tumor": eye}, {"tumor": eye})
    result = measure(perfect, {"tumor": target})
    assert result["tumor"] == {"r2_mean": 1.0, "r2": [1.0] * 3, "r": [1.0] * 3}
    assert result["retrieval"] == {"slide_to_genes": 1.0, "genes_to_slide": 1.0, "chance": 0.25, "rank": 10}
    mean = PairEncoding({"tumor": target.mean(0).expand(40, 3)}, {"tumor": eye}, {"tumor": eye.roll(1, 0)})
    result = measure(mean, {"tumor": target})
    assert result["tumor"]["r2_mean"] == pytest.approx(0, abs=1e-6)
    assert result["retrieval"]["slide_to_genes"] == 0.0, "ties count against it"


def test_student_and_teacher_start_from_the_weights(learned: Pretrained) -> None:
    dims = make_pairs(fold(DATA), [OTHER], SMALL, TEST).preprocessors[0].dims
    student, teacher = Student.build(dims, PARAMS), Teacher.build(dims, PARAMS)
    names = load_matching(student, learned.initial("student").weights)
    assert set(names) == {n for n in student.state_dict() if n.startswith(("project.", "aggregate."))}
    assert torch.equal(student.aggregate.queries["tme"], learned.weights["aggregate.queries.tme"])
    names = load_matching(teacher, learned.initial("teacher").weights)
    assert {"queries.tumor", "genes.measured.tumor.inner.weight", "project.project.weight"} <= set(names)
    assert {n for n in teacher.state_dict() if n.startswith(("genes.", "attend.", "queries."))} <= set(names)
    assert not any(name.startswith(("head.", "fuse.")) for name in names)
    with pytest.raises(ConfigError, match=r"pretraining\.start"):
        load_matching(torch.nn.Linear(2, 2), learned.weights)


def test_training_starts_from_them_in_every_member(learned: Pretrained) -> None:
    still = change(PARAMS, optimisation={"epochs": 1, "learning_rate": 1e-12, "ensemble_size": 2, "weight_decay": 0.0})
    teacher = train_teacher(fold(DATA), still, "grade", initial=learned.initial("teacher")).model
    student = distill_student(fold(DATA), still, "grade", None, initial=learned.initial("student")).model
    for member in teacher.members:
        torch.testing.assert_close(
            member.genes.measured["tumor"].inner.weight, learned.weights["genes.measured.tumor.inner.weight"]
        )
    for member in student.members:
        torch.testing.assert_close(member.project.project.weight, learned.weights["project.project.weight"])
    for model in (teacher, student, distill_student(fold(DATA), still, "grade", teacher).model):
        known = set(model.spec.training_patient_hashes)
        assert {digest(case.patient_id) for case in (*OTHER.cases, *fold(DATA).learning.cases)} == known
    plain = distill_student(fold(DATA), still, "grade", None).model
    assert digest(OTHER.cases[0].patient_id) not in plain.spec.training_patient_hashes
    assert not torch.allclose(plain.members[0].project.project.weight, learned.weights["project.project.weight"])


def test_weights_survive_the_disk(learned: Pretrained, tmp_path) -> None:
    learned.save(tmp_path)
    read = Pretrained.load(tmp_path)
    assert read.report == learned.report
    assert all(torch.equal(read.weights[name], value) for name, value in learned.weights.items())
    (tmp_path / "weights.safetensors").write_bytes(b"damaged")
    with pytest.raises(InputError, match="dvc repro pretrain"):
        Pretrained.load(tmp_path)


def test_the_site_is_told_where_it_is_planted_and_not_where_it_is_not() -> None:
    rng = np.random.default_rng(0)
    sites = [f"S{i}" for i in rng.integers(0, 3, 150)] + ["small"] * 4
    noise = rng.normal(size=(154, 5))
    planted = noise + np.array([[3.0 * (site == "S0"), 3.0 * (site == "S1"), 0, 0, 0] for site in sites])
    result = compare_site_signal({"before": noise, "after": planted}, sites, 10)
    assert result["sites"] == 3
    assert result["patients"] == 150
    assert abs(result["before"] - 0.5) < 0.12
    assert result["after"] > 0.95
    assert compare_site_signal({"before": noise[:150]}, ["one"] * 150, 10) == {}


def test_the_report_has_the_site_before_and_after() -> None:
    report = pretrain(fold(cohort(60)), [OTHER], change(SMALL, pretraining={"epochs": 1}), TEST).report["site_auc"]
    assert set(report) == {"sites", "patients", "input", "before", "after"}
    assert report["patients"] == 48


def test_too_few_pairs_are_refused() -> None:
    bare = replace(DATA, cases=tuple(replace(c, expression=None) if i > 8 else c for i, c in enumerate(DATA.cases)))
    with pytest.raises(InputError, match="pretraining: 6 patients have slide and expression"):
        pretrain(fold(bare), [], SMALL, TEST)


def test_tumor_genes_are_named_as_in_the_cohort() -> None:
    assert make_pairs(fold(DATA), [OTHER], SMALL, TEST).preprocessors[1].tumor_genes == TUMOR
