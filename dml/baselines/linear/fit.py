"""Linear baselines on the same folds: principal components of each source and a penalised linear model.

Everything is fitted on the fold's training patients; validation and test patients are only predicted.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from dml.baselines.linear import neighbours
from dml.baselines.linear.regression import Regression
from dml.config import params as config
from dml.core.types import Case, Cohort, Source
from dml.linear_models.design_matrix import DesignMatrix, column_names
from dml.models import registry
from dml.models.entry import ModelEntry

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
    *neighbours.MODELS,
)
"""A patient that lacks one of the inputs is left out of fitting and of predictions."""


@dataclass(frozen=True, slots=True)
class BaselineResult:
    """Predictions of a fitted baseline, the content of its model.json, and the metadata of its predictions.

    `rows` has patient_id, site, role, model, the outputs and the targets.
    """

    rows: pd.DataFrame
    description: Mapping[str, Any]
    metadata: Mapping[str, Any]


def fit_baseline(
    name: str,
    training: Cohort,
    evaluated: Mapping[str, Cohort],
    regression: Regression,
    settings: config.Baselines,
) -> BaselineResult | None:
    """Fit one baseline on training patients and predict others.

    Parameters
    ----------
    name : str
        Of one of `MODELS`.
    training : Cohort
        The fold's training patients: all that anything is fitted on.
    evaluated : mapping
        Role ("validation", "test") to its patients.
    regression : Regression
        Of the task, from `make_regression`.
    settings : config.Baselines
        Principal components per source, and the ridge penalty.

    Returns
    -------
    BaselineResult or None
        None if no training patient has the inputs.

    Raises
    ------
    InputError
        If nothing can be fitted to the training patients: nobody died, or one class only.
    """
    sources = registry.entry(name).inputs
    cases = _select(training, regression, sources)
    if not cases:
        log.warning("%s: no training patient has %s", name, " and ".join(sources) or "a target")
        return None
    design = DesignMatrix.fit(training, cases, sources, settings.components)
    columns = design(training, cases)
    if name in neighbours.NAMES:
        model: Any = neighbours.fit_neighbours(columns, cases, regression.task.name, regression.task.classes)
    else:
        model = regression.fit(columns, cases, settings.penalty)
    parts = []
    for role, cohort in evaluated.items():
        usable = _select(cohort, regression, sources)
        keys = {
            "patient_id": [case.patient_id for case in usable],
            "site": [case.site for case in usable],
            "role": role,
        }
        parts.append(pd.DataFrame({**keys, **regression.predict(model, design(cohort, usable), usable)}))
    reductions = {s: r.describe() | {"columns": column_names(training, s)} for s, r in design.reductions.items()}
    description = {
        "name": name,
        "inputs": list(sources),
        "training_patients": len(cases),
        "model": model.describe(),
        "reductions": reductions,
    }
    rows = pd.concat(parts, ignore_index=True).assign(model=name)
    return BaselineResult(rows, description, regression.metadata(model, columns, cases))


def _select(cohort: Cohort, regression: Regression, sources: Sequence[Source]) -> list[Case]:
    return [case for case in cohort.cases if regression.task.is_known(case) and all(case.has(s) for s in sources)]
