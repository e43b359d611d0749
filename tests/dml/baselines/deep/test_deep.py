"""Deep baselines: what must not matter does not, everything learns, each sees only its sources, and training helps."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from dml.config import params as config
from dml.core.errors import ConfigError
from dml.data.dims import ModelDims
from dml.data.preprocessing import Preprocessor
from dml.models import registry
from dml.models.multi_scale import BranchModel
from dml.models.nn.attention import LinearAttention
from dml.training.checkpoint import FoldModel, ModelSpec
from dml.training.objectives import Losses, Objective, TaskObjective
from dml.training.train import train_baseline, train_teacher
from tests.behaviour import padded, permuted, row, same
from tests.synthetic import DIMS, PARAMS, batch, change, cohort, fold

EVERY = [*registry.deep_names(), *registry.variant_names()]
READS_SLIDES = [name for name in EVERY if "slide" in registry.entry(name).inputs]
READS_GENES = [name for name in EVERY if "genes" in registry.entry(name).inputs]
BOTH = [name for name in READS_SLIDES if name in READS_GENES]
PARAMS = change(PARAMS, optimisation={"epochs": 10, "patience": 10})
QUICK = change(PARAMS, optimisation={"epochs": 1})


def make(name: str, dims: ModelDims = DIMS) -> BranchModel:
    torch.manual_seed(0)
    return registry.entry(name).build(dims, PARAMS).eval()


@pytest.fixture(params=EVERY)
def model(request: pytest.FixtureRequest) -> BranchModel:
    return make(request.param)


def test_an_unknown_name_is_refused_with_the_choices() -> None:
    with pytest.raises(ConfigError, match=r"unknown model 'abmill'; there are: teacher, .*abmil, .*transmil"):
        registry.entry("abmill")


def test_order_of_tokens_does_not_matter(model: BranchModel) -> None:
    data = batch([(8, 3), (5, 2)])
    shuffled = replace(data, levels=tuple(permuted(x, torch.randperm(x.tokens.shape[1])) for x in data.levels))
    same(model(data), model(shuffled))


def test_padding_does_not_matter(model: BranchModel) -> None:
    data = batch([(8, 3), (5, 2)])
    same(model(data), model(replace(data, levels=tuple(padded(x, 4) for x in data.levels))))


def test_neighbours_in_the_batch_do_not_matter(model: BranchModel) -> None:
    data = batch([(8, 3), (5, 2), (1, 1)])
    together = model(data)
    for i in range(3):
        torch.testing.assert_close(together.logits[i : i + 1], model(row(data, i)).logits, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("sizes", [[(1, 1)], [(1, 0)], [(0, 1)], [(0, 0)], [(300, 75), (1, 1)]])
def test_any_number_of_tokens_gives_a_finite_answer(model: BranchModel, sizes: list[tuple[int, int]]) -> None:
    data = batch(sizes)
    output = model(data)
    assert torch.isfinite(output.logits).all()
    for maps in output.attention.values():
        for level, attention in zip(data.levels, maps, strict=True):
            torch.testing.assert_close(attention.sum(1), level.mask.any(1).float(), atol=1e-5, rtol=0)
            assert (attention[~level.mask] == 0).all()


def test_same_input_same_output(model: BranchModel) -> None:
    data = batch([(8, 3), (5, 2)])
    assert torch.equal(model(data).logits, model(data).logits)


@pytest.mark.parametrize("name", EVERY)
def test_every_parameter_receives_gradient(name: str) -> None:
    model = make(name, DIMS.model_copy(update={"covariates": 2})).train()
    data = batch([(30, 9), (25, 7), (28, 8), (20, 6), (22, 7)])
    hidden = replace(data.expression, present=torch.tensor([True, True, True, True, False]))
    given = replace(data, expression=hidden, covariates=torch.randn(5, 2))
    output = model(given)
    torch.stack([output.logits.square().sum(), *output.terms.values()]).sum().backward()
    largest = {n: 0.0 if p.grad is None else float(p.grad.abs().max()) for n, p in model.named_parameters()}
    assert {n: size for n, size in largest.items() if size < 1e-7} == {}  # 1e-7: more than rounding


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("levels", [1, 3])
def test_any_number_of_magnifications(name: str, levels: int) -> None:
    data = batch([(8, 3), (5, 2)])
    several = replace(data, levels=(*data.levels, data.levels[1])[:levels])
    model = make(name, DIMS.model_copy(update={"levels": levels}))
    assert model(several).logits.shape == (2, 4)


@pytest.mark.parametrize("name", EVERY)
def test_covariates_count_where_there_are_any(name: str) -> None:
    model = make(name, DIMS.model_copy(update={"covariates": 2}))
    data = replace(batch([(8, 3)]), covariates=torch.zeros(1, 2))
    older = replace(data, covariates=torch.ones(1, 2))
    assert not torch.allclose(model(data).logits, model(older).logits)


@pytest.mark.parametrize("name", EVERY)
def test_each_reads_its_inputs_and_nothing_else(name: str) -> None:
    model, data = make(name), batch([(8, 3)])
    genes = replace(data, expression=replace(data.expression, tumor=data.expression.tumor + 2))
    slide = replace(data, levels=tuple(replace(x, tokens=x.tokens.flip(2)) for x in data.levels))
    before = model(data).logits
    assert torch.equal(before, model(genes).logits) == (name not in READS_GENES)
    assert torch.equal(before, model(slide).logits) == (name not in READS_SLIDES)


@pytest.mark.parametrize("name", BOTH)
def test_absent_genes_are_ignored(name: str) -> None:
    model, data = make(name), batch([(8, 3)])
    absent = replace(data, expression=replace(data.expression, present=torch.tensor([False])))
    other = replace(absent, expression=replace(absent.expression, tumor=absent.expression.tumor + 9))
    assert torch.equal(model(absent).logits, model(other).logits)
    assert not torch.allclose(model(absent).logits, model(data).logits)


def test_late_fusion_is_the_sum_of_two_models() -> None:
    """Changing the genes moves the logits by the same amount whatever the slide (one magnification)."""
    model, moved = make("late_fusion", DIMS.model_copy(update={"levels": 1})), []
    for seed in (1, 2):
        data = batch([(8, 3)], seed)
        fixed = replace(data, levels=data.levels[:1], expression=batch([(8, 3)], 3).expression)
        genes = replace(fixed, expression=replace(fixed.expression, tme=fixed.expression.tme + 1))
        moved.append(model(genes).logits - model(fixed).logits)
    torch.testing.assert_close(*moved, atol=1e-5, rtol=1e-4)


def test_attention_of_mcat_depends_on_the_genes_of_the_group() -> None:
    model, data = make("mcat"), batch([(8, 3)])
    genes = replace(data, expression=replace(data.expression, tumor=data.expression.tumor + 3))
    before, after = model(data).attention, model(genes).attention
    assert not torch.allclose(before["tumor"][0], after["tumor"][0], atol=1e-6)
    assert torch.equal(before["tme"][0], after["tme"][0])


def test_transmil_uses_positions_only_where_there_are_any() -> None:
    model, data = make("transmil"), batch([(20, 5)])
    moved = replace(data, levels=tuple(replace(x, coords_um=x.coords_um.flip(1)) for x in data.levels))
    assert not torch.allclose(model(data).logits, model(moved).logits, atol=1e-6)
    nowhere = torch.zeros(1, dtype=torch.bool)
    both = [replace(d, levels=tuple(replace(x, has_coords=nowhere) for x in d.levels)) for d in (data, moved)]
    assert torch.equal(model(both[0]).logits, model(both[1]).logits)


def test_linear_attention_equals_its_quadratic_twin() -> None:
    attention, tokens = LinearAttention(6, 1), torch.randn(1, 5, 6)
    mask = torch.tensor([[True, True, True, False, True]])
    q, k = (torch.nn.functional.elu(m(tokens)) + 1 for m in (attention.queries, attention.keys))
    weights = (q @ k.transpose(1, 2)) * mask[:, None, :]
    slow = attention.out(weights / weights.sum(-1, keepdim=True) @ attention.values(tokens))
    torch.testing.assert_close(attention(tokens, mask), slow, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", EVERY)
def test_training_improves_over_the_null_model(name: str, tmp_path: Path) -> None:
    """The planted tumor factor decides the grade; null's loss is log 2. Saved and loaded, the model says the same."""
    data = cohort(80, absent=6)
    trained = train_baseline(fold(data), PARAMS, "grade", name)
    assert trained is not None
    assert trained.history["validation_loss"].min() < 0.8 * np.log(2)
    terms = [c for c in trained.history if c.startswith("train_") and c != "train_task"]
    assert bool(terms) == (registry.entry(name).objective is not None)
    trained.model.save(tmp_path)
    loaded = FoldModel.load(tmp_path)
    assert loaded.spec.name == name
    pd.testing.assert_frame_equal(loaded.predict(data), trained.model.predict(data), check_exact=True)


def test_the_genes_baseline_leaves_out_patients_without_and_reads_those_without_slide() -> None:
    data = cohort(30, absent=5)
    without_slide = tuple(replace(c, bags={}) if i > 26 else c for i, c in enumerate(data.cases))
    data = replace(data, cases=without_slide)
    predicted = {
        name: set(train_baseline(fold(data), QUICK, "survival", name).model.predict(data)["patient_id"])
        for name in ("genes_snn", "mcat")
    }
    assert predicted["genes_snn"] == {c.patient_id for c in data.cases[5:]}
    assert predicted["mcat"] == {c.patient_id for c in data.cases[:27]}


def test_only_deep_baselines_are_trained_so() -> None:
    with pytest.raises(ConfigError, match="linear_slide is no deep baseline; there are: abmil, "):
        train_baseline(fold(cohort(10)), PARAMS, "grade", "linear_slide")


def test_an_objective_of_its_own_and_gradient_coordination_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice the loss is another training; coordination is in the history of a model with two subspaces."""

    def double(preprocessor: Preprocessor, params: config.Params) -> Objective:
        task = TaskObjective(preprocessor, params)
        return lambda batch, output: Losses(2 * task(batch, output).task, {})

    plain = train_baseline(fold(cohort(20)), QUICK, "grade", "subspace_fusion")
    entry = replace(registry.entry("subspace_fusion"), objective=double, wants_gradient_coordination=True)
    monkeypatch.setattr(registry, "entries", lambda: {"subspace_fusion": entry})
    changed = train_baseline(fold(cohort(20)), QUICK, "grade", "subspace_fusion")
    assert changed.history["train_task"][0] > 1.5 * plain.history["train_task"][0]
    assert "conflicts" not in plain.history
    assert "conflicts" in changed.history


def test_nobody_with_the_inputs_is_no_model() -> None:
    assert train_baseline(fold(cohort(10, absent=10)), PARAMS, "grade", "genes_snn") is None


def test_trained_twice_it_is_the_same() -> None:
    first, second = (train_baseline(fold(cohort(20)), QUICK, "survival", "transmil") for _ in range(2))
    pd.testing.assert_frame_equal(first.history, second.history, check_exact=True)


def test_a_description_names_a_registered_model() -> None:
    """A name that is not registered is refused."""
    written = train_teacher(fold(cohort(20)), QUICK, "survival").model.spec.model_dump(mode="json")
    assert written["name"] == "teacher"
    assert not any("baseline" in key for key in written)
    assert ModelSpec.model_validate(written | {"name": "student"}).name == "student"
    with pytest.raises(ConfigError, match="unknown model 'professor'"):
        ModelSpec.model_validate(written | {"name": "professor"}).build()
