import numpy as np
import pytest

from dml.core.errors import InputError
from dml.teachability.gene_targets import GeneTargets, measured_sets, name_targets, read_hallmark_sets


@pytest.fixture
def data(plant):
    return plant(0.5, patients=40)


def test_sets_are_the_groups_and_hallmarks_of_measured_genes(data):
    hallmark = {"HALLMARK_A": ["T0", "M0", "M1", "X"], "HALLMARK_B": ["T0", "X", "Y"]}
    sets = measured_sets(data.cohort, hallmark, min_genes=3)
    assert sets == {
        "group tumor": ("T0", "T1", "T2"), "group tme": ("M0", "M1", "M2"), "HALLMARK_A": ("T0", "M0", "M1"),
    }  # fmt: skip


def test_a_former_symbol_in_a_set_is_the_measured_gene(data):
    from dataclasses import replace

    cohort = replace(data.cohort, genes=("KMT2A", "T1", "T2", "M0", "M1", "M2"))
    assert measured_sets(cohort, {"HALLMARK_C": ["MLL", "T1"]}, 2)["HALLMARK_C"] == ("KMT2A", "T1")


def test_a_set_is_the_mean_of_its_standardised_genes(data):
    cases, sets = data.cohort.cases, {"one": ("T0", "M2"), "two": ("T1",)}
    targets = GeneTargets.fit(data.cohort, cases, sets, components=2)
    values, names = targets(data.cohort, cases), name_targets(data.cohort, sets, 2)
    assert values.shape == (40, len(names)) == (40, 6 + 2 + 2)
    np.testing.assert_allclose(values[:, 6], (values[:, 0] + values[:, 5]) / 2)
    np.testing.assert_allclose(values[:, 7], values[:, 1])
    np.testing.assert_allclose(values[:, :6].mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(values[:, :6].std(axis=0), 1)


def test_scaling_is_of_the_learning_patients(data):
    learning, others = data.cohort.cases[:30], data.cohort.cases[30:]
    targets = GeneTargets.fit(data.cohort, learning, {}, 1)
    expression = np.array([case.expression for case in learning], float)
    low, high = np.quantile(expression, [0.01, 0.99], axis=0)
    clipped = np.clip(expression, low, high)
    test = np.clip(np.array([case.expression for case in others], float), low, high)
    expected = (test - clipped.mean(axis=0)) / clipped.std(axis=0)
    np.testing.assert_allclose(targets(data.cohort, others)[:, :6], expected, rtol=1e-6)


def test_components_beyond_those_there_are_do_not_vary(data):
    values = GeneTargets.fit(data.cohort, data.cohort.cases, {}, 5)(data.cohort, data.cohort.cases)
    assert values.shape == (40, 6 + 5)
    assert values[:, 6].std() == pytest.approx(1)
    assert (values[:, 7:] == 0).all()


def test_hallmark_sets_are_read_where_the_cohort_has_a_file(tmp_path):
    assert read_hallmark_sets(tmp_path) == {}
    (tmp_path / "hallmarks_signatures.csv").write_text("HALLMARK_A,Other\nTP53,EGFR\nPTEN,\n")
    assert read_hallmark_sets(tmp_path) == {"HALLMARK_A": ["TP53", "PTEN"]}
    (tmp_path / "hallmarks_signatures.csv").write_text("\n")
    with pytest.raises(InputError, match=r"hallmarks_signatures\.csv"):
        read_hallmark_sets(tmp_path)
