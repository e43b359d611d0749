"""Contributions: they sum to the output less the reference, are exact where networks are linear, and blind to order."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from dml.attribution.attribute import LINEAR, Attribution, attribute
from dml.attribution.path_integral import contributions_of
from dml.config import params as config
from dml.core.errors import ConfigError, InputError
from dml.core.types import SUBSPACES, Cohort
from dml.data.batches import collate
from dml.data.example_cohort import TME, TUMOR, example_cohort
from dml.data.linear_offset import LinearOffset
from dml.data.patient_reader import PatientReader
from dml.data.preprocessing import Preprocessor
from dml.training.checkpoint import FoldModel, ModelSpec
from dml.training.fit_offset import SOURCES, fit_linear_offset, read_outcomes

NETWORKS = ("teacher", "student", "abmil", "mean_pool", "transmil", "mcat", "late_fusion", "subspace_fusion")


@cache
def patients() -> Cohort:
    return example_cohort(60)


@cache
def fold_model(
    name: str,
    task: str = "survival",
    offset: bool = False,
    members: int = 2,
    aggregation: str = "subspace_queries",
    architecture: str = "subspace_tokens",
    fold: int = 0,
) -> FoldModel:
    """Untrained networks with weights of a size that makes them as curved as trained ones."""
    sections = {
        "cohort": "example",
        "tasks": [task],
        "folds": [0, 1],
        "tiles": {"mpps": (0.5, 1.0)},
        "embed": {"encoder": "fake"},
        "model": {"width": 8, "heads": 2, "n_queries": 4, "gene_width": 8},
        "distillation": {"aggregation": aggregation, "architecture": architecture},
    }
    params = config.Params.model_validate(sections)
    preprocessor = Preprocessor.fit(patients(), params, task)
    linear = _offset(preprocessor, name) if offset else None
    spec = ModelSpec(
        name=name,
        preprocessor=preprocessor,
        model=params.model,
        teacher=params.teacher,
        distillation=params.distillation,
        tiles=params.tiles,
        years=(1.0,),
        members=members,
        seed=0,
        train_cutoff=-1.5 + fold,
        train_risk_deviation=0.5 + fold,
        linear_offset=linear,
    )
    built = []
    with torch.random.fork_rng():
        for seed in range(members):
            torch.manual_seed(100 * fold + seed)
            member = spec.build().eval()
            for weight in member.parameters():
                weight.data.add_(0.3 * torch.randn_like(weight))
            built.append(member)
    return FoldModel(spec, tuple(built))


def _offset(preprocessor: Preprocessor, name: str) -> LinearOffset:
    cohort = patients()
    reader = PatientReader(preprocessor, cohort)
    folds = [i % 3 for i in range(len(cohort.cases))]
    sources = SOURCES["slide", "genes"] if name == "teacher" else SOURCES[("slide",)]
    outcomes = read_outcomes(cohort.cases, preprocessor)
    return fit_linear_offset(reader.source_rows(cohort.cases), folds, sources, outcomes, 3)


def one(index: int = 7) -> Cohort:
    return patients().subset({f"P{index:03d}"})


def sums(result: Attribution) -> np.ndarray:
    return np.sum([part.contribution.sum(0) for part in (*result.tiles, *result.genes)], axis=0)


def close(result: Attribution) -> None:
    size = np.sum([np.abs(part.contribution).sum(0) for part in (*result.tiles, *result.genes)], axis=0)
    assert np.abs(size).max() > 0.01
    assert (np.abs(result.residual) <= 1e-3 * size + 1e-5).all(), (result.residual, size)


@pytest.mark.parametrize("task", ["survival", "grade", "score"])
@pytest.mark.parametrize("offset", [False, True])
@pytest.mark.parametrize("name", ["teacher", "student"])
def test_contributions_sum_to_the_output_less_the_reference(name: str, task: str, offset: bool) -> None:
    result = attribute([fold_model(name, task, offset)], one())
    close(result)
    branches = {part.branch for part in result.tiles}
    assert branches == {*SUBSPACES, *((LINEAR,) if offset else ())}
    assert [part.group for part in result.genes] == (list(SUBSPACES) if name == "teacher" else [])


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_is_attributed_completely(name: str) -> None:
    close(attribute([fold_model(name)], one()))


@pytest.mark.parametrize("aggregation", ["none", "subspace_queries"])
def test_students_of_any_aggregation_are_attributed_completely(aggregation: str) -> None:
    close(attribute([fold_model("student", aggregation=aggregation)], one()))


@pytest.mark.parametrize("architecture", ["gene_imputation", "completed_genes"])
def test_a_student_that_imputes_genes_is_attributed_completely(architecture: str) -> None:
    close(attribute([fold_model("student", architecture=architecture)], one()))


def test_the_output_is_the_model_s_mean_over_members_on_the_scale_of_the_ensemble() -> None:
    folds = [fold_model("student", fold=fold) for fold in (0, 1)]
    risks = []
    for fold in folds:
        batch = collate([fold.reader(one())(one().cases[0])], fold.spec.preprocessor)
        for member in fold.members:
            with torch.no_grad():
                survival = torch.cumprod(1 - torch.sigmoid(member(batch).logits), 1)
            risks.append((float(-survival.sum()) - fold.spec.train_cutoff) / fold.spec.train_risk_deviation)
    assert attribute(folds, one()).output[0] == pytest.approx(np.mean(risks), abs=1e-5)


def test_ensembles_average_contributions_and_report_their_deviation() -> None:
    model = fold_model("student")
    each = [attribute([FoldModel(model.spec, (member,))], one()).part("tme", 0.5) for member in model.members]
    part = attribute([model], one()).part("tme", 0.5)
    np.testing.assert_allclose(part.contribution, np.mean([p.contribution for p in each], axis=0), rtol=1e-9)
    np.testing.assert_allclose(part.deviation, np.std([p.contribution for p in each], axis=0), rtol=1e-9)
    np.testing.assert_allclose(part.attention, np.mean([p.attention for p in each], axis=0), rtol=1e-9)
    assert part.deviation.max() > 0


@pytest.mark.parametrize("name", ["abmil", "mean_pool"])
def test_networks_that_pool_linearly_give_each_tile_its_attention_times_its_own_logit(name: str) -> None:
    """Exact for logits: the contribution of a tile does not need the others, once attention is given."""
    model = fold_model(name, "grade", members=1)
    network, spec = model.members[0], model.spec
    case = one().cases[0]
    batch = collate([model.reader(one())(case)], spec.preprocessor)
    path = contributions_of(network, batch, None, "classification")
    with torch.no_grad():
        changed = replace(batch, levels=tuple(replace(x, tokens=torch.zeros_like(x.tokens)) for x in batch.levels))
        weight = sum(w for w in network.head.weights)  # type: ignore[misc]
        tile = [network.project(x.tokens, i) - network.project(y.tokens, i)  # type: ignore[operator]
                for i, (x, y) in enumerate(zip(batch.levels, changed.levels, strict=True))]  # fmt: skip
    for i, added in enumerate(tile):
        logits = added[0] @ weight.T * path.attention["slide", i][:, None]
        centred = logits - logits.mean(1, keepdim=True)
        ratio = path.tiles["slide", i] / centred  # one factor: the weight of the magnification
        assert torch.allclose(ratio, ratio.flatten()[0].expand_as(ratio), rtol=1e-3)
        assert 0 < float(ratio.flatten()[0]) < 1


def test_the_integral_agrees_with_the_closed_form(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mean pooling along the curved path of projected tokens ends at the same sums as its closed form."""
    model = fold_model("mean_pool", members=1)
    exact = attribute([model], one())
    monkeypatch.setattr(type(model.members[0]), "pools_linearly", False)
    np.testing.assert_allclose(sums(attribute([model], one())), sums(exact), atol=2e-3 * np.abs(sums(exact)).max())


def test_the_order_of_tiles_does_not_matter() -> None:
    model, cohort = fold_model("student", offset=True), one()
    case = cohort.cases[0]
    order = {
        mpp: torch.randperm(len(bag), generator=torch.Generator().manual_seed(1)) for mpp, bag in case.bags.items()
    }
    bags = {
        mpp: replace(
            bag, tokens=bag.tokens[order[mpp]], coords_um=bag.coords_um[order[mpp]], slide=bag.slide[order[mpp]]
        )
        for mpp, bag in case.bags.items()
        if bag.coords_um is not None
    }
    shuffled = attribute([model], replace(cohort, cases=(replace(case, bags=bags),)))
    straight = attribute([model], cohort)
    for branch in (*SUBSPACES, LINEAR):
        for mpp in order:
            expected = straight.part(branch, mpp).contribution[order[mpp].numpy()]
            np.testing.assert_allclose(shuffled.part(branch, mpp).contribution, expected, atol=1e-4)


def test_the_linear_offset_s_shares_are_those_of_the_pooled_means() -> None:
    """Duplicating every tile halves each share; the sum stays. A tile equal to the reference has none."""
    model = fold_model("student", "grade", offset=True, members=1)
    case = one().cases[0]
    doubled = {
        mpp: replace(
            bag,
            tokens=torch.cat([bag.tokens] * 2),
            coords_um=torch.cat([bag.coords_um] * 2),  # type: ignore[list-item]
            slide=torch.cat([bag.slide] * 2),
        )
        for mpp, bag in case.bags.items()
    }
    single = attribute([model], one()).part(LINEAR, 0.5).contribution
    double = attribute([model], replace(one(), cases=(replace(case, bags=doubled),))).part(LINEAR, 0.5).contribution
    np.testing.assert_allclose(double[: len(single)], single / 2, rtol=1e-6)
    assert np.abs(single).max() > 0


def test_a_patient_of_mean_tokens_has_no_contributions() -> None:
    model = fold_model("student")
    case = one().cases[0]
    mean = torch.from_numpy(model.spec.preprocessor.tokens.mean)
    bags = {mpp: replace(bag, tokens=mean.expand(len(bag), -1)) for mpp, bag in case.bags.items()}
    result = attribute([model], replace(one(), cases=(replace(case, bags=bags),)))
    assert np.abs(sums(result)).max() < 1e-5
    np.testing.assert_allclose(result.output, result.reference, atol=1e-5)


def test_genes_of_sets_sum_to_the_group() -> None:
    genes = attribute([fold_model("teacher", offset=True)], one()).genes
    tumor, tme = genes
    assert (tumor.genes, tme.genes) == (TUMOR, TME)
    sets = tumor.of_sets({"a": TUMOR[:2], "b": (TUMOR[1], "absent")})
    np.testing.assert_allclose(np.sum(list(sets.values()), axis=0), tumor.contribution.sum(0), rtol=1e-9)
    np.testing.assert_allclose(sets["b"], tumor.contribution[1] / 2)
    np.testing.assert_allclose(sets["other"], tumor.contribution[2:].sum(0))
    deviations = tumor.deviation_of_sets({"a": TUMOR[:2], "b": (TUMOR[1], "absent")})
    np.testing.assert_allclose(deviations["b"], tumor.deviation[1] / 2)
    expected = np.hypot(tumor.deviation[0], tumor.deviation[1] / 2)
    np.testing.assert_allclose(deviations["a"], expected)


def test_an_absent_transcriptome_contributes_nothing() -> None:
    cohort = replace(one(), cases=(replace(one().cases[0], expression=None),))
    result = attribute([fold_model("teacher", offset=True)], cohort)
    assert result.genes == ()
    close(result)


def test_a_resolution_without_tiles_is_left_out() -> None:
    case = one().cases[0]
    fine = {mpp: bag for mpp, bag in case.bags.items() if mpp == 0.5}
    result = attribute([fold_model("student", offset=True)], replace(one(), cases=(replace(case, bags=fine),)))
    assert {part.mpp for part in result.tiles} == {0.5}
    close(result)


def test_refusals_name_the_patient_and_the_model() -> None:
    with pytest.raises(InputError, match=r"P007.*student requires"):
        attribute([fold_model("student")], replace(one(), cases=(replace(one().cases[0], bags={}),)))
    batch = collate([fold_model("student").reader(one())(one().cases[0])], fold_model("student").spec.preprocessor)
    with pytest.raises(ConfigError, match="Linear"):
        contributions_of(torch.nn.Linear(2, 2), batch, None, "survival")
    with pytest.raises(InputError, match=r"There are: tumor at 0\.5"):
        attribute([fold_model("student")], one()).part("stroma", 0.5)


@pytest.mark.parametrize("offset", [False, True])
def test_contributions_to_a_number_are_in_its_unit(offset: bool) -> None:
    model, patient = fold_model("teacher", "score", offset), one()
    result = attribute([model], patient)
    assert result.outputs == ("score",)
    assert result.output[0] == pytest.approx(model.predict(patient)["value"][0], rel=1e-4)
