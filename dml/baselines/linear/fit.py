"""Classical references under the same folds: principal components of each source and a penalised Cox or logistic model.

Everything is fitted on the fold's training patients; validation and test patients are only predicted.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from dml.baselines.linear.tasks import ClassLearner, Learner, SurvivalLearner
from dml.config import params as config
from dml.core.types import SURVIVAL, Case, Cohort, Source
from dml.models.entry import ModelEntry
from dml.models.linear.design_matrix import Design, column_names

log = logging.getLogger(__name__)

_INPUTS: Mapping[Source, tuple[str, str]] = {
    "slide": ("slide", "the mean of the slide's tile features"),
    "genes": ("genes", "the transcriptome"),
    "clinical": ("age + sex", "age and sex"),
}
"""Label and description of each source."""


def _linear(name: str, *sources: Source) -> ModelEntry:
    labels, descriptions = zip(*(_INPUTS[source] for source in sources), strict=True)
    return ModelEntry(
        name,
        label=f"linear: {' + '.join(labels)}",
        description=f"Penalised regression on {', '.join(descriptions)}",
        family="linear",
        inputs=sources,
        requires=sources,
    )


MODELS = (
    ModelEntry(
        "null",
        label="no predictors",
        description="No input: the average of the training patients",
        family="linear",
        inputs=(),
        requires=(),
    ),
    _linear("linear_clinical", "clinical"),
    _linear("linear_slide", "slide"),
    _linear("linear_genes", "genes"),
    _linear("linear_slide_genes", "slide", "genes"),
    _linear("linear_slide_clinical", "slide", "clinical"),
    _linear("linear_slide_genes_clinical", "slide", "genes", "clinical"),
)
"""A patient that lacks one of the inputs is left out of fitting and of predictions."""
BASELINES: Mapping[str, tuple[Source, ...]] = {model.name: model.inputs for model in MODELS}
"""Inputs of each baseline."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A fitted baseline's predictions, and what model.json and the predictions' metadata say of it.

    `rows` has patient_id, site, role, model, the outputs and the truth; `description` is model.json's content.
    """

    rows: pd.DataFrame
    description: Mapping[str, Any]
    metadata: Mapping[str, Any]


def learner_of(task: str, training: Cohort, horizons: Mapping[str, int]) -> Learner:
    """Choose how a task is learnt: "survival", or the name of a label."""
    return SurvivalLearner(horizons) if task == SURVIVAL else ClassLearner(task, tuple(training.classes[task]))


def fit_reference(
    name: str,
    training: Cohort,
    judged: Mapping[str, Cohort],
    learner: Learner,
    settings: config.Baselines,
) -> Reference | None:
    """Fit one baseline on training patients and predict others.

    Parameters
    ----------
    name : str
        One of `BASELINES`.
    training : Cohort
        The fold's training patients: all that anything is fitted on.
    judged : mapping
        Role ("validation", "test") to its patients.
    learner : Learner
        The task, from `learner_of`.
    settings : config.Baselines
        Principal components per source, and the ridge penalty.

    Returns
    -------
    Reference or None
        None if no training patient has the sources.

    Raises
    ------
    InputError
        If nothing can be learnt from the training patients: nobody died, or one class only.
    """
    sources = BASELINES[name]
    cases = _usable(training, learner, sources)
    if not cases:
        log.warning("%s: no training patient has %s", name, " and ".join(sources) or "the truth")
        return None
    design = Design.fit(training, cases, sources, settings.components)
    columns = design(training, cases)
    model = learner.fit(columns, cases, settings.penalty)
    parts = []
    for role, cohort in judged.items():
        kept = _usable(cohort, learner, sources)
        who = {"patient_id": [case.patient_id for case in kept], "site": [case.site for case in kept], "role": role}
        parts.append(pd.DataFrame({**who, **learner.outputs(model, design(cohort, kept), kept)}))
    described = {
        "baseline": name,
        "sources": list(sources),
        "training_patients": len(cases),
        "model": model.described(),
        "reductions": {s: r.described() | {"columns": column_names(training, s)} for s, r in design.reductions.items()},
    }
    rows = pd.concat(parts, ignore_index=True).assign(model=name)
    return Reference(rows, described, learner.metadata(model, columns, cases))


def _usable(cohort: Cohort, learner: Learner, sources: Sequence[Source]) -> list[Case]:
    return [case for case in cohort.cases if learner.knows(case) and all(case.has(s) for s in sources)]
