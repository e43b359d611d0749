"""What each model is called and what it is, in one line for a reader who did not train it."""

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
    "baseline_subspace_fusion": "Slide and transcriptome: the predecessor's subspace fusion (after Zhang 2024)",
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
_NAMES = {
    "student_undistilled": "student, undistilled",
    "baseline_null": "no predictors",
    "baseline_mean_pool": "mean pooling",
    "baseline_abmil": "ABMIL",
    "baseline_transmil": "TransMIL",
    "baseline_genes_snn": "genes SNN",
    "baseline_late_fusion": "late fusion",
    "baseline_mcat": "MCAT-style",
    "baseline_subspace_fusion": "subspace fusion",
}
_SHORT = {"slide": "slide", "genes": "genes", "both": "slide + genes", "clinical": "age + sex"}
SLIDE_ONLY = ("baseline_slide", "baseline_mean_pool", "baseline_abmil", "baseline_transmil")
"""Baselines that see what the student sees."""


def named(model: str) -> str:
    """Return a model's name as tables and figures print it; of a model not known here, the name of its folder."""
    if model in _NAMES:
        return _NAMES[model]
    parts = model.removeprefix("baseline_").split("_")
    if model.startswith("baseline_") and set(parts) <= set(_SHORT):
        return f"linear: {' + '.join(_SHORT[part] for part in parts)}"
    base, _, ending = model.rpartition("_")
    if ending == "recalibrated":
        return f"{named(base)}, recalibrated"
    return f"{named(base)} + age + sex" if ending == "clinical" else model


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
