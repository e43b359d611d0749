"""Of several samples of a patient one counts, by a rule that neither the order of a file nor its name decides."""

from itertools import permutations

import pytest

from dml.readers.samples import Sample, choose_sample, is_normal, patient_of, same_type, sample_code, select_types


@pytest.mark.parametrize(
    ("name", "kind", "code"),
    [
        ("TCGA-02-0001-01A-11R", "", "01"),
        ("TCGA-02-0001-06A", "", "06"),
        ("TCGA-02-0001-11A", "", "11"),
        ("TARGET-20-PABLDZ-03A", "", "03"),
        ("TCGA-02-0001-00", "", ""),
        ("S1", "Primary Tumor", "01"),
        ("S1", "primary", "01"),
        ("S1", "Solid Tissue Normal", "11"),
        ("S1", "Additional - New Primary", "05"),
        ("S1", "Recurrent Tumor", "02"),
        ("S1", "Additional Metastatic", "07"),
        ("TCGA-02-0001-01A", "Metastasis", "06"),
        ("S1", "cell line", ""),
    ],
)
def test_types_are_told_by_words_then_by_barcode(name: str, kind: str, code: str) -> None:
    assert sample_code(name, kind) == code


CASES = [
    (["P-a:Metastasis", "P-b:Primary"], "P-b", "Primary before Metastasis"),
    (["TCGA-02-0001-06A", "TCGA-02-0001-01A"], "TCGA-02-0001-01A", "primary tumor before metastasis"),
    (["TCGA-02-0001-02A", "TCGA-02-0001-06A"], "TCGA-02-0001-02A", "recurrent tumor before metastasis"),
    (["TCGA-02-0001-01B", "TCGA-02-0001-01A"], "TCGA-02-0001-01A", "first vial"),
    (["A1", "A0"], "A0", "first of 2 equal samples by name"),
    (["A1:Primary", "A0"], "A1", "Primary before of unknown type"),
]


@pytest.mark.parametrize(("names", "chosen", "rule"), CASES)
def test_the_primary_counts_whatever_the_order(names: list[str], chosen: str, rule: str) -> None:
    samples = [Sample("P", *name.split(":")) for name in names]
    for ordered in permutations(samples):
        assert (choose_sample(ordered)[0].name, choose_sample(ordered)[1]) == (chosen, rule)


def test_of_aliquots_the_deepest_counts_not_the_first_file() -> None:
    aliquots = [Sample("P", "P-01A", reads=5e7, file="z.tsv"), Sample("P", "P-01A", reads=3e7, file="a.tsv")]
    chosen, rule = choose_sample(aliquots)
    assert chosen.file == "z.tsv"
    assert rule == "aliquot with the most reads (50000000 before 30000000)"


def test_a_mean_is_of_samples_of_one_type() -> None:
    samples = [Sample("P", "TCGA-02-0001-06A"), Sample("P", "TCGA-02-0001-01A"), Sample("P", "TCGA-02-0001-01B")]
    assert [s.name for s in same_type(samples)] == ["TCGA-02-0001-01A", "TCGA-02-0001-01B"]


def test_types_match_in_any_case_and_empty_ones_by_the_barcode() -> None:
    samples = [
        Sample("P1", "TCGA-02-0001-01", "PRIMARY"),
        Sample("P2", "TCGA-02-0002-01", ""),
        Sample("P3", "TCGA-02-0003-06", ""),
        Sample("P4", "S4", "metastasis"),
        Sample("P5", "S5", ""),
    ]
    selected, others = select_types(samples, ["Primary"])
    assert [s.patient_id for s in selected] == ["P1", "P2"]
    assert [(s.patient_id, why.split(":")[0]) for s, why in others] == [
        ("P3", "metastasis"),
        ("P4", "metastasis"),
        ("P5", "of unknown type"),
    ]


def test_normal_tissue_is_left_out_where_no_type_is_asked_for() -> None:
    selected, others = select_types([Sample("P", "S1", "Solid Tissue Normal"), Sample("P", "S2", "Primary")], [])
    assert [s.name for s in selected] == ["S2"]
    assert others[0][1] == "Solid Tissue Normal: not of the tumor"
    assert is_normal("TCGA-02-0001-11A-01-TS1")
    assert not is_normal("TCGA-02-0001-01Z-00-DX1")
    assert patient_of("TCGA-02-0001-11A") == "TCGA-02-0001"


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("Abnormal", ""), ("non-metastatic primary tumor", "01"), ("Tumor, not recurrent", ""),
        ("Adjacent tissue", "11"), ("Non-tumor", "11"), ("NAT", "11"), ("healthy", "11"), ("Non-neoplastic", "11"),
        ("Paratumor", "11"), ("Solid Tissue Normal", "11"), ("Metastatic", "06"), ("relapsed", "02"),
    ],
)  # fmt: skip
def test_words_count_whole_and_not_where_they_are_denied(kind: str, code: str) -> None:
    assert sample_code("S1", kind) == code


@pytest.mark.parametrize("name", ["TCGA.02.0001.11A", "TCGA_02_0001_11", "tcga-02-0001-11a", "S12_normal"])
def test_normal_tissue_in_other_spellings_of_a_name(name: str) -> None:
    assert is_normal(name)
