"""Preprocessor and batches: fitted on what it was handed, magnifications linked physically, missing things normal."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from lifelines import NelsonAalenFitter

from dml.config import params as config
from dml.core.errors import InputError
from dml.core.types import Bag, ClassTarget, Cohort, Microns, Mpp, SurvivalTarget
from dml.data.batch_sampler import micro_batches
from dml.data.batches import collate, make_batches
from dml.data.patient_reader import PatientReader, find_parents, slide_offsets
from dml.data.preprocessing import Preprocessor, Scaling
from tests.synthetic import COARSE, FINE, TILE_UM, cohort, grid_bags

PARAMS = config.Params(cohort="synthetic", tasks=("survival",), folds=(0, 1), tiles=config.Tiles(mpps=(0.5, 1.0)))


def test_a_coarse_tile_is_the_parent_of_exactly_its_four_children(rng: np.random.Generator) -> None:
    bags = grid_bags(3, rng)
    parent = find_parents(bags[FINE], bags[COARSE])
    assert parent is not None
    assert torch.bincount(parent).tolist() == [4] * 9
    for child, mother in enumerate(parent.tolist()):
        gap = (bags[FINE].coords_um[child] - bags[COARSE].coords_um[mother]).abs()
        assert float(gap.max()) == TILE_UM / 2


def test_parents_are_on_the_same_slide(rng: np.random.Generator) -> None:
    one, two = grid_bags(2, rng), grid_bags(2, rng)

    def both(mpp: Mpp) -> Bag:
        a, b = one[mpp], two[mpp]
        slide = torch.cat([a.slide, b.slide + 1])
        return replace(
            a, tokens=torch.cat([a.tokens, b.tokens]), coords_um=torch.cat([a.coords_um, b.coords_um]), slide=slide
        )

    fine, coarse = both(FINE), both(COARSE)
    parent = find_parents(fine, coarse)
    assert torch.equal(coarse.slide[parent], fine.slide)


def test_a_tile_outside_every_coarse_tile_has_no_parent(rng: np.random.Generator) -> None:
    bags = grid_bags(2, rng)
    kept = bags[COARSE]
    corner = replace(kept, tokens=kept.tokens[:1], coords_um=kept.coords_um[:1], slide=kept.slide[:1])
    parent = find_parents(bags[FINE], corner)
    assert sorted(parent.tolist()) == [-1] * 12 + [0] * 4


def test_slides_are_put_side_by_side() -> None:
    bag = Bag(
        torch.zeros(2, 1),
        torch.tensor([[900.0, 0.0], [100.0, 0.0]]),
        torch.tensor([0, 1]),
        FINE,
        Microns(200.0),
        "fake",
    )
    offsets = slide_offsets([bag])
    assert offsets[0] == 0
    assert offsets[1] > 1000


def test_scaling_ignores_missing_values_and_constant_columns() -> None:
    scaling = Scaling.fit(np.array([[1.0, 5.0], [3.0, 5.0], [np.nan, 5.0]], dtype=np.float32))
    scaled = scaling(np.array([[3.0, 5.0], [np.nan, 6.0]], dtype=np.float32))
    assert scaled.tolist() == [[1.0, 0.0], [0.0, 1.0]]


def test_published_z_scores_of_thousands_count_as_the_largest_usual_value() -> None:
    rows = np.random.default_rng(0).normal(size=(500, 1)).astype(np.float32)
    rows[7] = 3515.0
    scaling = Scaling.fit(rows, winsorise=0.01)
    scaled = scaling(rows)
    assert abs(float(scaled.std()) - 1) < 0.05
    assert float(scaled.max()) < 4
    assert float(scaling(np.array([[1e6]]))[0, 0]) == float(scaled.max())


def test_the_preprocessor_survives_json_exactly() -> None:
    prepared = Preprocessor.fit(cohort(20), PARAMS, "survival")
    again = Preprocessor.model_validate_json(prepared.model_dump_json())
    assert again.model_dump_json() == prepared.model_dump_json()
    assert np.array_equal(again.tokens.mean, prepared.tokens.mean)


def test_bins_are_quantiles_of_the_events_and_not_of_the_censored() -> None:
    data = cohort(40)
    events = [c.survival.days for c in data.cases if c.survival.event]
    prepared = Preprocessor.fit(data, PARAMS, "survival")
    np.testing.assert_allclose(prepared.bin_edges, np.quantile(events, [0.25, 0.5, 0.75]), rtol=1e-6)


def test_shuffled_batches_hold_everyone_once_and_bags_of_similar_size() -> None:
    data = cohort(60)
    prepared = Preprocessor.fit(data, PARAMS, "survival")
    read = PatientReader(prepared, data)
    patients = [read(c) for c in data.cases]
    made = list(make_batches(patients, prepared, 8, torch.Generator().manual_seed(1)))
    seen = [patient for one in made for patient in one.patient_ids]
    assert sorted(seen) == sorted(p.patient_id for p in patients)
    assert seen != [p.patient_id for p in patients]
    padding = sum(int((~one.levels[0].mask).sum()) for one in made)
    in_order = sum(int((~one.levels[0].mask).sum()) for one in make_batches(patients, prepared, 8))
    assert padding < in_order / 3


def test_the_head_starts_from_the_training_hazards() -> None:
    """Nelson-Aalen of lifelines: what has accumulated by the first edge, as the hazard of the first bin."""
    data = cohort(60)
    prepared = Preprocessor.fit(data, PARAMS, "survival")
    follow_up = [c.survival for c in data.cases]
    fitted = NelsonAalenFitter(nelson_aalen_smoothing=False).fit(
        [s.days for s in follow_up], [s.event for s in follow_up]
    )
    passed = prepared.baseline(np.array([float(prepared.bin_edges[0])]))[0]
    assert passed == pytest.approx(float(fitted.predict(prepared.bin_edges[0])), rel=0.1), "linear between deaths"
    expected = np.log(np.expm1(passed))  # log-odds of 1 - exp(-H)
    assert float(prepared.base_logits[0]) == pytest.approx(expected, abs=1e-5)


def test_a_batch_of_patients_with_missing_parts() -> None:
    data = cohort(6, absent=2)
    cases = list(data.cases)
    cases[3] = replace(cases[3], survival=None, labels={})
    cases[4] = replace(cases[4], bags={COARSE: cases[4].bags[COARSE]})
    data = replace(data, cases=tuple(cases))
    prepared = Preprocessor.fit(data, PARAMS, "survival")
    read = PatientReader(prepared, data)
    made = collate([read(c) for c in data.cases], prepared)
    assert made.expression.present.tolist() == [False, False, True, True, True, True]
    assert (made.expression.tumor[:2] == 0).all()
    assert isinstance(made.target, SurvivalTarget)
    assert made.target.known.tolist() == [True, True, True, False, True, True]
    assert made.levels[0].mask[4].sum() == 0
    assert made.levels[1].mask[4].sum() == len(data.cases[4].bags[COARSE])
    label = collate([read(c) for c in data.cases], Preprocessor.fit(data, PARAMS, "grade")).target
    assert isinstance(label, ClassTarget)


def test_genes_are_found_by_symbol_in_any_order() -> None:
    data = cohort(8)
    prepared = Preprocessor.fit(data, PARAMS, "survival")
    order = np.random.default_rng(1).permutation(len(data.genes))
    shuffled = replace(
        data,
        genes=tuple(data.genes[i] for i in order),
        cases=tuple(replace(c, expression=c.expression[order]) for c in data.cases),
    )
    for a, b in zip(data.cases, shuffled.cases, strict=True):
        assert np.array_equal(PatientReader(prepared, data)(a).tumor, PatientReader(prepared, shuffled)(b).tumor)
    fewer = replace(data, genes=("X0", *data.genes[1:]))
    assert PatientReader(prepared, fewer)(fewer.cases[0]).tumor[0] == 0  # a gene not measured takes the training mean


@pytest.mark.parametrize(
    ("change", "task", "message"),
    [
        (
            lambda c: replace(c, survival=replace(c.survival, event=False)),
            "survival",
            "no event among 8 training patients",
        ),
        (lambda c: replace(c, labels={"grade": "low"}), "grade", "no training patient of class high"),
        (lambda c: c, "colour", "unknown task 'colour'"),
        (lambda c: replace(c, bags={}), "survival", "no training patient has features at mpp"),
    ],
)
def test_what_cannot_be_fitted_is_an_error(change: object, task: str, message: str) -> None:
    data: Cohort = cohort(8)
    data = replace(data, cases=tuple(change(c) for c in data.cases))
    with pytest.raises(InputError, match=message):
        Preprocessor.fit(data, PARAMS, task)


def test_a_batch_is_cut_into_micro_batches_that_are_small_when_padded(rng: np.random.Generator) -> None:
    data = cohort(12)
    read = PatientReader(Preprocessor.fit(data, PARAMS, "survival"), data)
    patients = [read(case) for case in data.cases]
    sizes = sorted(p.size for p in patients)
    limit = 2 * sizes[-1]
    cut = micro_batches(patients, limit)
    assert len(cut) > 1
    assert all(len(part) == 1 or len(part) * max(p.size for p in part) <= limit for part in cut)
    assert sorted(p.patient_id for part in cut for p in part) == sorted(p.patient_id for p in patients)
    assert micro_batches(patients, None) == [patients]
    assert len(micro_batches(patients, 1)) == len(patients)


@pytest.mark.parametrize("most_tokens", [None, 40])
@pytest.mark.parametrize("fewest", [2, 3, 5, 50])
def test_a_team_has_a_pass_for_everyone_while_there_are_patients(most_tokens: int | None, fewest: int) -> None:
    data = cohort(12)
    read = PatientReader(Preprocessor.fit(data, PARAMS, "survival"), data)
    patients = [read(case) for case in data.cases]
    cut = micro_batches(patients, most_tokens, fewest)
    assert len(cut) >= min(fewest, len(patients))
    assert all(cut)
    assert sorted(p.patient_id for part in cut for p in part) == sorted(p.patient_id for p in patients)
    whole = max(len(part) * max(p.size for p in part) for part in micro_batches(patients, most_tokens))
    assert all(len(part) * max(p.size for p in part) <= whole for part in cut)
