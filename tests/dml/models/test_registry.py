"""The only list of models: every entry is complete, and readers get labels also of derived names."""

import pytest

from dml.core.errors import ConfigError
from dml.models import registry
from tests.synthetic import DIMS, PARAMS, cohort


def test_ours_come_first_then_deep_and_linear_baselines() -> None:
    families = [entry.family for entry in registry.entries().values()]
    assert families == sorted(families, key=["ours", "deep", "linear"].index)
    assert list(registry.entries())[:3] == ["teacher", "student", "student_undistilled"] == registry.our_names()


@pytest.mark.parametrize("name", registry.entries())
def test_an_entry_is_complete(name: str) -> None:
    entry = registry.entry(name)
    assert entry.name == name
    assert "-" not in name, "a hyphen separates what is added to predictions"
    assert entry.description != name
    assert set(entry.requires) <= set(entry.inputs)
    assert (entry.build is None) == (entry.family == "linear")
    if entry.build is not None:
        assert entry.build(DIMS, PARAMS).training


def test_labels_are_unique() -> None:
    labels = [registry.label(name) for name in registry.entries()]
    assert len(set(labels)) == len(labels)


@pytest.mark.parametrize(
    ("name", "label", "description"),
    [
        ("teacher", "teacher", "Sees slide and transcriptome"),
        ("abmil-clinical", "ABMIL + age + sex", "fused with age and sex"),
        ("student-recalibrated", "student, recalibrated", "refitted on other patients"),
        ("linear_slide_clinical", "linear: slide + age + sex", "Penalised regression on the mean of the slide"),
        ("unheard_of", "unheard_of", "unheard_of"),
    ],
)
def test_labels_and_descriptions_of_derived_names(name: str, label: str, description: str) -> None:
    assert registry.label(name) == label
    assert description in registry.description(name)


def test_an_unknown_name_lists_the_models() -> None:
    with pytest.raises(ConfigError, match=r"unknown model 'abmill'; there are: teacher, .*abmil, "):
        registry.entry("abmill")


def test_baselines_are_those_of_others() -> None:
    assert registry.is_baseline("abmil-clinical")
    assert registry.is_baseline("null")
    assert not registry.is_baseline("teacher-recalibrated")
    assert not registry.is_baseline("unheard_of")


def test_a_patient_must_have_what_a_model_requires() -> None:
    without, with_genes = cohort(2, absent=1).cases
    assert registry.entry("teacher").accepts(without), "the transcriptome may be absent"
    assert not registry.entry("genes_snn").accepts(without)
    assert registry.entry("genes_snn").accepts(with_genes)
