"""Gene programs and relations between patients: what a student is taught beside the task, and what it reaches."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dml.core.types import SUBSPACES
from dml.data.batches import collate
from dml.data.gene_programs import GenePrograms
from dml.data.patient_reader import PatientReader
from dml.data.preprocessing import Preprocessor
from dml.linear_models.fit_programs import fit_programs
from dml.models.student import Student
from dml.training.checkpoint import FoldModel
from dml.training.loss_terms.gene_programs import gene_program_loss
from dml.training.loss_terms.registry import LossInputs
from dml.training.loss_terms.relational import distance_disagreement
from dml.training.train import distill_student
from tests.synthetic import PARAMS, change, cohort, fold

DATA = cohort(120, absent=12)
TAUGHT = change(PARAMS, distillation={"program_weight": 1.0}, optimisation={"epochs": 6, "ensemble_size": 1})


@pytest.fixture(scope="module")
def prepared() -> Preprocessor:
    learning = fold(DATA).learning
    preprocessor = Preprocessor.fit(learning, PARAMS, "survival")
    inner = {c.patient_id: i % 3 for i, c in enumerate(learning.cases)}
    return preprocessor.model_copy(update={"programs": fit_programs(learning, preprocessor, inner)})


def inputs(prepared: Preprocessor, student: Student) -> LossInputs:
    read = PatientReader(prepared, DATA)
    batch = collate([read(case) for case in DATA.cases[:16]], prepared)
    return LossInputs(batch, student(batch), TAUGHT, "survival")


def test_scores_are_standardised_and_weighted_by_what_the_slide_predicts(prepared: Preprocessor) -> None:
    for subspace in SUBSPACES:
        programs = prepared.programs[subspace]
        read = PatientReader(prepared, DATA)
        cases = [case for case in fold(DATA).learning.cases if case.has_expression and case.has_slide]
        genes = np.array([getattr(read(case), subspace) for case in cases])
        np.testing.assert_allclose(programs(genes).std(0), np.sqrt(programs.weights), rtol=0.02, atol=1e-6)
        assert programs.weights.mean() == pytest.approx(1) or not programs.weights.any()


def test_what_the_slide_does_not_predict_has_no_weight() -> None:
    """Tokens of another patient: nothing is predictable, so nothing is taught."""
    learning = fold(DATA).learning
    bags = [case.bags for case in learning.cases]
    mixed = tuple(replace(c, bags=b) for c, b in zip(learning.cases, [*bags[37:], *bags[:37]], strict=True))
    preprocessor = Preprocessor.fit(learning, PARAMS, "survival")
    inner = {c.patient_id: i % 3 for i, c in enumerate(learning.cases)}
    right, wrong = (
        fit_programs(replace(learning, cases=cases), preprocessor, inner) for cases in (learning.cases, mixed)
    )
    assert right["tumor"].predictability.max() > 0.3, "the planted factor is in slide and genes"
    assert wrong["tumor"].predictability.max() < 0.15


def test_each_subspace_learns_its_programs_from_its_own_token(prepared: Preprocessor) -> None:
    student = Student.build(prepared.dims, TAUGHT)
    loss = gene_program_loss(inputs(prepared, student))
    assert loss is not None
    for subspace in SUBSPACES:
        head = student.predict_programs[subspace]
        assert head.weight.shape[0] == len(prepared.programs[subspace].mean)
    loss.backward()
    reached = {name for name, p in student.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert {f"predict_programs.{s}.weight" for s in SUBSPACES} <= reached
    assert any(name.startswith("aggregate.") for name in reached)
    assert not any(name.startswith("head.maps") for name in reached), "the head of the task is not concerned"


def test_a_patient_without_transcriptome_teaches_nothing(prepared: Preprocessor) -> None:
    student = Student.build(prepared.dims, TAUGHT).eval()
    given = inputs(prepared, student)
    present = given.batch.expression.present
    assert bool((~present).any()), "some of the first patients have none"
    changed = {s: torch.where(present[:, None], z, z + 100) for s, z in given.batch.programs.items()}
    other = replace(given, batch=replace(given.batch, programs=changed))
    torch.testing.assert_close(gene_program_loss(given), gene_program_loss(other))


def test_trained_saved_and_loaded(tmp_path) -> None:
    result = distill_student(fold(DATA), TAUGHT, "survival", None)
    history = result.history["train_gene_programs"]
    assert history.iloc[-1] < history.iloc[0]
    result.model.save(tmp_path)
    again = FoldModel.load(tmp_path)
    assert set(again.spec.preprocessor.programs) == set(SUBSPACES)
    np.testing.assert_array_equal(again.predict(DATA)["risk"], result.model.predict(DATA)["risk"])


def test_off_by_default_there_are_no_heads() -> None:
    result = distill_student(fold(DATA), change(PARAMS, optimisation={"epochs": 1}), "survival", None)
    assert "train_gene_programs" not in result.history
    assert not [name for name in result.model.members[0].state_dict() if "programs" in name]


def test_components_have_a_sign_and_the_first_program_is_the_mean() -> None:
    genes = np.random.default_rng(0).normal(size=(50, 12))
    directions, mirrored = (GenePrograms.directions_of(x, 3) for x in (genes, genes[::-1]))
    np.testing.assert_allclose(genes @ directions[:, 0], genes.mean(1))
    np.testing.assert_allclose(directions, mirrored, atol=1e-8)


def test_relations_do_not_depend_on_rotation_scale_or_width() -> None:
    tokens = torch.randn(9, 6)
    rotation = torch.linalg.qr(torch.randn(6, 6))[0]
    assert float(distance_disagreement(tokens, 3 * tokens @ rotation + 5)) == pytest.approx(0, abs=1e-6)
    wider = torch.cat([tokens, torch.zeros(9, 4)], 1)
    assert float(distance_disagreement(wider, tokens)) == pytest.approx(0, abs=1e-6)
    assert float(distance_disagreement(tokens, torch.randn(9, 6))) > 0.01


def test_relational_distillation_reaches_the_student_and_not_the_teacher() -> None:
    student, teacher = (torch.randn(5, 4, requires_grad=True) for _ in range(2))
    distance_disagreement(student, teacher).backward()
    assert student.grad is not None
    assert teacher.grad is None
