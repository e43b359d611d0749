"""What a reader is told of each model."""

import pytest

from dml.evaluation.glossary import described


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("teacher", "Sees slide and transcriptome"),
        ("baseline_genes", "Penalised regression on the transcriptome"),
        ("baseline_slide_clinical", "Penalised regression on the mean of the slide's tile features, age and sex"),
        ("baseline_unheard_of", "baseline_unheard_of"),
        ("unheard_of", "unheard_of"),
    ],
)
def test_models_are_described_by_what_they_see(model: str, said: str) -> None:
    assert described(model) == said
