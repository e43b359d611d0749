"""What each model is, in one line for a reader who did not train it."""

_MODELS = {
    "teacher": "Sees slide and transcriptome",
    "student": "Sees the slide only; learned from the teacher's predictions and features",
    "student_undistilled": "Sees the slide only; the student's network trained without the teacher",
    "baseline_null": "Knows nothing of the patient: what is average in training",
    "baseline_mean_pool": "Network on the mean of the slide's tile features",
    "baseline_abmil": "Slide only: gated attention pooling (Ilse 2018)",
    "baseline_transmil": "Slide only: attention between tiles (after TransMIL, Shao 2021)",
    "baseline_genes_snn": "Transcriptome only: self-normalising network",
    "baseline_late_fusion": "Slide and transcriptome, each with its own network; logits added",
    "baseline_mcat": "Slide and transcriptome: gene-guided co-attention (after MCAT, Chen 2021)",
}
_ENDINGS = {
    "recalibrated": "; level and spread of risk refitted on other patients of this cohort",
    "clinical": "; age and sex beside what it said",
}
_SOURCES = {
    "slide": "the mean of the slide's tile features",
    "genes": "the transcriptome",
    "both": "the mean of the slide's tile features, the transcriptome",
    "clinical": "age and sex",
}


def described(model: str) -> str:
    """Say in one line what a model sees; of a model not known here, its name."""
    if model in _MODELS:
        return _MODELS[model]
    base, _, ending = model.rpartition("_")
    if ending in _ENDINGS and base in _MODELS:
        return f"{_MODELS[base]}{_ENDINGS[ending]}"
    parts = model.removeprefix("baseline_").split("_")
    if not model.startswith("baseline_") or not set(parts) <= set(_SOURCES):
        return model
    return f"Penalised regression on {', '.join(_SOURCES[part] for part in parts)}"
