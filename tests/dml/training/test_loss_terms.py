"""Loss terms: one function and a weight are enough for training, history and the error message."""

from collections.abc import Iterator

import pytest

from dml.core.errors import ConfigError
from dml.training.loss_terms.registry import TERMS, LossInputs, loss_term, loss_terms
from dml.training.train import train_teacher
from tests.synthetic import PARAMS, change, cohort, fold

QUICK = change(PARAMS, optimisation={"epochs": 1})


@pytest.fixture
def penalty() -> Iterator[None]:
    """A term as a user's module would register it."""

    @loss_term("logit_penalty", model="teacher")
    def logit_penalty(inputs: LossInputs):
        return inputs.output.logits.square().mean()

    yield
    del TERMS["teacher", "logit_penalty"]


def test_the_terms_of_each_model_in_a_fixed_order() -> None:
    teacher = ["auxiliary", "consistency", "disentanglement", "self_distillation"]
    assert [term.name for term in loss_terms("teacher")] == teacher
    student = [
        "auxiliary",
        "prediction_distillation",
        "feature_distillation",
        "gene_programs",
        "relational_distillation",
    ]
    assert [term.name for term in loss_terms("student")] == student


def test_weights_are_read_from_the_section_of_the_model() -> None:
    weights = {term.name: term.weight(PARAMS) for term in loss_terms("teacher")}
    assert weights == {"auxiliary": 0.0, "consistency": 0.1, "disentanglement": 0.0, "self_distillation": 0.0}
    (consistency,) = (term for term in loss_terms("teacher") if term.name == "consistency")
    assert consistency.change(0.5, PARAMS) == {"teacher": {"consistency_weight": 0.5}}


def test_a_term_of_a_user_is_trained_with_its_weight(penalty: None) -> None:
    with_term = change(QUICK, teacher={"loss_weights": {"logit_penalty": 0.5}})
    plain, penalised = (train_teacher(fold(cohort(20)), params, "grade") for params in (QUICK, with_term))
    assert "train_logit_penalty" not in plain.history
    assert (penalised.history["train_logit_penalty"] > 0).all()
    assert not plain.model.predict(cohort(20)).equals(penalised.model.predict(cohort(20)))


def test_a_weight_without_a_term_is_an_error(penalty: None) -> None:
    params = change(QUICK, teacher={"loss_weights": {"logit_penaltty": 0.5}})
    with pytest.raises(ConfigError, match=r"teacher\.loss_weights: no loss term 'logit_penaltty'; .*logit_penalty"):
        train_teacher(fold(cohort(20)), params, "grade")
