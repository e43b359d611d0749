"""Comparators: what their idea says holds, it can be switched off, and patients without genes are no trouble."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dml.baselines.deep.clam import select_ends
from dml.baselines.deep.dsmil import choose
from dml.config import params as config
from dml.core.errors import ConfigError, InputError
from dml.core.types import Batch
from dml.data.batches import make_batches
from dml.data.dims import ModelDims
from dml.models import registry
from dml.models.multi_scale import BranchModel
from dml.models.nn.gaussian_experts import Gaussian, product_of_experts
from dml.models.nn.pathways import PathwayEncoder, pathway_groups, pathway_sets
from dml.models.nn.prototypes import Prototypes
from dml.models.nn.shared_specific import (
    EmbeddingMemory,
    SharedSpecific,
    central_moment_discrepancy,
    difference,
    orthogonal_part,
    overlap,
)
from dml.training.model_objective import ModelTermsObjective
from dml.training.train import train_baseline
from tests.synthetic import DIMS, PARAMS, batch, change, cohort, fold

WITH_BACKBONE = [name for name, entry in registry.entries().items() if entry.backbone]
WITH_TERMS = [name for name, entry in registry.entries().items() if entry.objective is ModelTermsObjective]
QUICK = change(PARAMS, optimisation={"epochs": 1})


def make(name: str, dims: ModelDims = DIMS) -> BranchModel:
    torch.manual_seed(0)
    return registry.entry(name).build(dims, PARAMS)


def without_genes(data: Batch, *patients: int) -> Batch:
    present = data.expression.present.clone()
    present[list(patients)] = False
    return replace(data, expression=replace(data.expression, present=present))


def test_every_comparator_of_the_issue_is_there_with_its_backbone() -> None:
    assert set(WITH_BACKBONE) >= {
        "murrenet", "dimaf", "mmp", "survpath", "ld_cvae", "g_hanet", "mem_cif", "clam", "dsmil",
        "subspace_fusion_coordinated",
    }  # fmt: skip


@pytest.mark.parametrize("name", WITH_BACKBONE)
def test_the_backbone_has_the_same_inputs_and_no_idea_of_its_own(name: str) -> None:
    entry = registry.entry(name)
    backbone = registry.entry(entry.backbone)
    assert (backbone.inputs, backbone.requires) == (entry.inputs, entry.requires)
    assert backbone.objective is None
    assert not backbone.wants_gradient_coordination
    changed = entry.wants_gradient_coordination or entry.objective is not None
    shapes = [{n: p.shape for n, p in make(key).named_parameters()} for key in (name, backbone.name)]
    assert changed or shapes[0] != shapes[1]


@pytest.mark.parametrize("name", WITH_TERMS)
def test_terms_are_of_training_only_and_those_of_a_backbone_empty(name: str) -> None:
    data = batch([(8, 3), (5, 2), (6, 2), (7, 3), (9, 2)])
    model = make(name)
    terms = model.train()(data).terms
    assert terms
    assert all(torch.isfinite(value) for value in terms.values())
    assert not model.eval()(data).terms
    assert not make(registry.entry(name).backbone).train()(data).terms


@pytest.mark.parametrize("name", WITH_TERMS)
def test_nobody_with_genes_leaves_no_term_of_genes(name: str) -> None:
    data = without_genes(batch([(8, 3), (5, 2)]), 0, 1)
    output = make(name).train()(data)
    assert torch.isfinite(output.logits).all()
    assert set(output.terms) <= {"tile_clustering"}


@pytest.mark.parametrize("name", WITH_BACKBONE)
def test_a_cohort_without_any_transcriptome_can_be_trained_on(name: str) -> None:
    trained = train_baseline(fold(cohort(20, absent=20)), QUICK, "grade", name)
    assert trained is not None
    assert np.isfinite(trained.history["validation_loss"]).all()


def test_padding_does_not_change_the_terms() -> None:
    """Terms of tiles, too: the same patients, three of them without padding."""
    from tests.behaviour import padded

    data = batch([(8, 3), (6, 2)])
    wider = replace(data, levels=tuple(padded(level, 5) for level in data.levels))
    model = make("clam").train()
    for module in model.modules():
        if hasattr(module, "p"):
            module.p = 0.0
    for term, value in model(data).terms.items():
        torch.testing.assert_close(model(wider).terms[term], value)


def test_completed_genes_are_more_like_those_of_the_patient_than_like_those_of_others() -> None:
    """The tumor factor shows in slide and tumor genes."""
    data = cohort(80)
    model = train_baseline(fold(data), change(PARAMS, optimisation={"epochs": 30}), "grade", "ld_cvae").model
    read = model.reader(data)
    (given,) = make_batches([read(case) for case in data.cases], model.spec.preprocessor, 80)
    with torch.inference_mode():
        measured = model.members[0](given)["tumor"]
        completed = model.members[0](without_genes(given, *range(80)))["tumor"]
    distance = torch.cdist(completed, measured)
    assert float(distance.diagonal().mean()) < 0.9 * float(distance.mean())


def test_g_hanet_learns_the_genes_that_a_slide_shows() -> None:
    data = cohort(80)
    trained = train_baseline(fold(data), change(PARAMS, optimisation={"epochs": 10}), "grade", "g_hanet")
    error = trained.history["train_gene_reconstruction"].to_numpy()
    assert error[-1] < 0.9 * error[0]


def test_coordination_of_the_predecessor_is_a_variant() -> None:
    trained = train_baseline(fold(cohort(20)), QUICK, "grade", "subspace_fusion_coordinated")
    assert "conflicts" in trained.history


def test_attention_of_survpath_follows_the_genes_where_there_are_any() -> None:
    model, data = make("survpath").eval(), batch([(8, 3)])
    other = replace(data, expression=replace(data.expression, tumor=data.expression.tumor + 3))
    assert not torch.allclose(model(data).attention["slide"][0], model(other).attention["slide"][0], atol=1e-6)


def test_shared_parts_of_the_same_distribution_are_alike_in_any_order() -> None:
    x = torch.tanh(torch.randn(200, 4))
    assert float(central_moment_discrepancy(x, x[torch.randperm(200)])) == pytest.approx(0, abs=1e-5)
    assert float(central_moment_discrepancy(x, x / 3)) > 0.05
    assert float(central_moment_discrepancy(x, x + 0.2)) == pytest.approx(0.2, abs=1e-3)


def test_what_is_independent_overlaps_less_than_what_is_the_same() -> None:
    x, y = torch.randn(400, 6), torch.randn(400, 6)
    assert float(overlap(x, y)) < 0.3 * float(overlap(x, x))
    orthogonal = orthogonal_part(x, y)
    torch.testing.assert_close((orthogonal * y).sum(1), torch.zeros(400), atol=1e-4, rtol=0)


def test_the_operator_learns_parts_that_rebuild_and_do_not_overlap() -> None:
    torch.manual_seed(0)
    common, slide, genes = (torch.randn(128, 2) for _ in range(3))
    inputs = {"slide": torch.cat([common, slide], 1), "genes": torch.cat([common, genes], 1)}
    split = SharedSpecific(("slide", "genes"), 4)
    optimiser = torch.optim.Adam(split.parameters(), 0.02)

    def losses() -> torch.Tensor:
        parts = split(inputs)
        alike = central_moment_discrepancy(parts.shared["slide"], parts.shared["genes"])
        return torch.stack([alike, difference(parts), split.reconstruction(parts, inputs)])

    before = losses().detach()
    for _ in range(200):
        optimiser.zero_grad()
        losses().sum().backward()
        optimiser.step()
    after = losses().detach()
    assert after.sum() < 0.6 * before.sum()
    assert after[2] < before[2]


def test_memory_has_earlier_rows_without_gradient_and_forgets_the_oldest() -> None:
    memory = EmbeddingMemory(3)
    first = memory({"x": torch.tensor([[1.0], [2.0]], requires_grad=True)})["x"]
    assert first.tolist() == [[1.0], [2.0]]
    assert memory({"x": torch.tensor([[3.0]])})["x"].tolist() == [[3.0], [1.0], [2.0]]
    assert memory({"x": torch.tensor([[4.0]])})["x"].tolist() == [[4.0], [3.0], [1.0], [2.0]]
    assert memory({"x": torch.tensor([[5.0]])})["x"].tolist() == [[5.0], [4.0], [3.0], [1.0]]
    assert not memory.state_dict()


def test_a_product_of_experts_is_surer_than_each_and_nearer_to_the_surer() -> None:
    sure, unsure = Gaussian(torch.ones(1, 1), torch.full((1, 1), -3.0)), Gaussian(-torch.ones(1, 1), torch.zeros(1, 1))
    both = product_of_experts([sure, unsure])
    assert float(both.log_variance) < -3
    assert float(both.mean) > 0.5


def test_pathways_read_their_genes_only_and_no_gene_is_lost() -> None:
    sets = pathway_sets()
    tumor, tme = sorted(sets["HYPOXIA"] - sets["GLYCOLYSIS"])[:8], sorted(sets["MYOGENESIS"])[:3]
    dims = DIMS.model_copy(update={"tumor_genes": 8, "tme_genes": 3, "gene_names": (*tumor, *tme)})
    groups = pathway_groups(dims)
    assert set().union(*groups.values()) == set(range(11))
    assert "MYOGENESIS" not in groups, "three genes are too few"
    encoder = PathwayEncoder(dims, 8, 6, 0.0)
    expression = batch([(1, 1)]).expression
    expression = replace(expression, tumor=torch.randn(1, 8), tme=torch.randn(1, 3))
    changed = replace(expression, tme=expression.tme + 1)
    differs = (encoder(expression) != encoder(changed)).any(-1)[0]
    assert [name for name, each in zip(encoder.names, differs, strict=True) if each] == [
        name for name, positions in groups.items() if max(positions) >= 8
    ]


def test_without_gene_sets_a_model_with_pathways_names_the_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("DML_GENE_SETS")
    with pytest.raises(ConfigError, match="set DML_GENE_SETS to a"):
        PathwayEncoder(DIMS, 8, 6, 0.0)
    monkeypatch.setenv("DML_GENE_SETS", str(tmp_path / "absent.gmt"))
    with pytest.raises(InputError, match="does not exist"):
        PathwayEncoder(DIMS, 8, 6, 0.0)


def test_a_panel_without_gene_has_one_empty_pathway() -> None:
    dims = DIMS.model_copy(update={"tumor_genes": 0, "tme_genes": 0})
    encoder = PathwayEncoder(dims, 8, 6, 0.0)
    expression = batch([(1, 1)]).expression
    assert encoder(replace(expression, tumor=torch.zeros(1, 0), tme=torch.zeros(1, 0))).shape == (1, 1, 6)


def test_prototypes_summarise_padding_and_order_away() -> None:
    prototypes, tokens = Prototypes(6, 3), torch.randn(1, 9, 6)
    mask = torch.arange(9)[None] < 7
    order = torch.randperm(9)
    summary, weights = prototypes(tokens, mask)
    torch.testing.assert_close(prototypes(tokens[:, order], mask[:, order])[0], summary, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(prototypes(tokens[:, :7], mask[:, :7])[0], summary, atol=1e-5, rtol=1e-4)
    assert float(weights.detach().sum()) == pytest.approx(1, abs=1e-5)


def test_ends_of_the_attention_never_overlap_and_are_real() -> None:
    attention, mask = torch.rand(4, 30), torch.arange(30)[None] < torch.tensor([[30], [5], [1], [0]])
    most, least = select_ends(attention, mask, 8)
    assert not (most & least).any()
    assert most.sum(1).tolist() == least.sum(1).tolist() == [8, 2, 0, 0]
    assert ((most | least) <= mask).all()
    assert attention[0][most[0]].min() >= attention[0][least[0]].max()


def test_the_critical_tile_is_chosen_hard_and_learns_softly() -> None:
    scores = torch.tensor([[0.1, 2.0, 5.0]], requires_grad=True)
    weights = choose(scores, torch.tensor([[True, True, False]]))
    assert weights.tolist() == [[0.0, 1.0, 0.0]]
    (weights * torch.tensor([1.0, 3.0, 9.0])).sum().backward()
    assert scores.grad[0, 1] > 0 > scores.grad[0, 0]


def test_width_without_effect_on_parameters_of_pathways_is_refused_nowhere() -> None:
    """Narrow models have at least one hidden unit a pathway."""
    settings = config.Model(width=8, heads=2, gene_width=2)
    assert registry.entry("survpath").build(DIMS, change(PARAMS, model=settings.model_dump())).training
