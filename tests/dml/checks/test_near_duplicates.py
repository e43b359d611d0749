"""One slide under two names is found after reordering, subsetting and rounding; different slides are left in peace."""

import re

import numpy as np
import pytest

from dml.checks.bag_summaries import patient_means, summarise_bag
from dml.checks.near_duplicates import duplicate_profiles, near_duplicate_bags, shared_tokens

Bags = dict[str, np.ndarray]


@pytest.fixture
def bags(rng: np.random.Generator) -> Bags:
    """Thirty patients of three tissue types: bags of one type have similar means."""
    kinds = rng.normal(size=(3, 16)) * 2
    return {f"S{i:02d}": (kinds[i % 3] + rng.normal(size=(40 + i, 16))).astype(np.float16) for i in range(30)}


def duplicates(bags: Bags, same: dict[str, str] | None = None) -> dict[str, str]:
    patient = {slide: (same or {}).get(slide, slide) for slide in bags}
    return near_duplicate_bags([summarise_bag(s, patient[s], tokens) for s, tokens in bags.items()], bags.__getitem__)


def test_different_slides_are_not_reported(bags: Bags) -> None:
    assert duplicates(bags) == {}


@pytest.mark.parametrize("change", ["order", "subset", "rounding", "scanned again"])
def test_a_slide_handed_in_twice(bags: Bags, rng: np.random.Generator, change: str) -> None:
    changed = {
        "order": lambda t: t[::-1],
        "subset": lambda t: t[5:-5],
        "rounding": lambda t: (t.astype(np.float32) + 1e-3).astype(np.float16),
        "scanned again": lambda t: (t + rng.normal(scale=0.03, size=t.shape)).astype(np.float16),
    }[change](bags["S07"])
    assert duplicates({**bags, "X": changed}) == {"S07": "X", "X": "S07"}


def test_two_slides_of_one_patient_may_be_alike(bags: Bags) -> None:
    assert duplicates({**bags, "X": bags["S07"][::-1]}, same={"X": "S07"}) == {}


def test_shared_counts_tokens(rng: np.random.Generator) -> None:
    a = rng.normal(size=(40, 8))
    b = np.concatenate([a[::2] + 1e-4, rng.normal(size=(20, 8)) + 9])
    assert shared_tokens(a, b) == 0.5
    assert shared_tokens(a[:1], a[:1] * 1.0001) == 1.0


def test_a_transcriptome_handed_in_twice(rng: np.random.Generator) -> None:
    profile = rng.normal(5, 3, size=200)
    values = profile + rng.normal(size=(12, 200))
    values[7] = values[2] * 1.02 + 0.1 + rng.normal(scale=0.02, size=200)
    ids = tuple(f"P{i:02d}" for i in range(12))
    twins = duplicate_profiles(ids, values.astype(np.float32))
    assert {p: t.split()[0] for p, t in twins[twins != ""].items()} == {"P02": "P07", "P07": "P02"}
    assert re.fullmatch(r"P07 \(correlation (0\.99\d|1\.000), (9\d|100)% of genes agree\)", twins["P02"])
    assert (duplicate_profiles(ids, values[:, :10]) == "").all(), "too few genes to say"


def test_one_extreme_gene_does_not_make_two_patients_alike(rng: np.random.Generator) -> None:
    values = rng.normal(size=(30, 400))
    values[[4, 9], 17] = 3515.0
    assert (duplicate_profiles(tuple(f"P{i}" for i in range(30)), values.astype(np.float32)) == "").all()


def test_patients_weigh_their_slides_by_tokens(rng: np.random.Generator) -> None:
    first, second = rng.normal(size=(10, 4)), rng.normal(size=(30, 4))
    ids, means = patient_means(
        [summarise_bag("a", "P1", first), summarise_bag("b", "P1", second), summarise_bag("c", "P0", first)]
    )
    assert ids == ["P0", "P1"]
    np.testing.assert_allclose(means[1], np.concatenate([first, second]).mean(axis=0))


def test_a_duplicate_among_profiles_without_structure(rng: np.random.Generator) -> None:
    values = rng.normal(size=(500, 300))
    values[321] = values[17] + rng.normal(size=300) * 0.01
    twins = duplicate_profiles(tuple(f"P{i:03d}" for i in range(500)), values)
    assert twins[twins != ""].index.to_list() == ["P017", "P321"]
    assert twins["P017"].startswith("P321")


def test_every_planted_copy_is_found_among_thousands_without_structure(rng: np.random.Generator) -> None:
    values = rng.normal(size=(2_000, 400))
    copies = np.arange(0, 2_000, 50)
    values[copies + 1] = values[copies] + rng.normal(scale=0.1, size=(len(copies), 400))
    found = duplicate_profiles(tuple(f"P{i}" for i in range(2_000)), values)
    named = {name: twin.split()[0] for name, twin in found.items() if twin}
    expected = {f"P{i}": f"P{i + 1}" for i in copies} | {f"P{i + 1}": f"P{i}" for i in copies}
    assert named == expected
