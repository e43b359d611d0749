"""Any model with age and sex beside it: a small regression on what the model said of patients it had not learnt from.

    survival         h(t) = h_0(t) exp(b eta + c . z),     eta = mean over the horizons of log(-log S(t))
    classification   p = softmax(W [log-odds of the model; z])

eta is the model's log hazard ratio wherever hazards are proportional. A few coefficients are fitted on predictions
for inner validation patients (stacking: Wolpert 1992), so every model, ours or a baseline, is shown without and with
the covariates at no cost, and a missing covariate counts as the mean.

Shape legend: n patients, c columns.
"""

import numpy as np
import pandas as pd
from jaxtyping import Float

from dml.baselines.linear.fit import Reference
from dml.baselines.linear.tasks import ClassLearner, Learner, SurvivalLearner
from dml.core.tasks import class_column
from dml.core.types import CLINICAL, Cohort
from dml.models.linear.design_matrix import Reduction, source_matrix

PENALTY = 0.01
"""Ridge penalty: with this few columns it only keeps separable data finite."""
FEWEST = 20
"""Patients below which no layer is fitted."""
SUFFIX = "-clinical"
"""After the name of the model that has the layer."""


def with_clinical(name: str, rows: pd.DataFrame, cohort: Cohort, learner: Learner) -> Reference | str:
    """Fit the layer on a model's validation rows and apply it to its test rows.

    Parameters
    ----------
    name : str
        The model's.
    rows : DataFrame
        Its predictions in one fold; only rows of role validation are fitted to.
    cohort : Cohort
        Where the covariates are.
    learner : Learner
        The task.

    Returns
    -------
    Reference or str
        The layered model, or why there is none.
    """
    by_id = {case.patient_id: case for case in cohort.cases}
    cases = [by_id[patient] for patient in rows["patient_id"]]
    usable = np.array([case.has_clinical and learner.knows(case) for case in cases], bool)
    seen, tested = (np.flatnonzero(usable & (rows["role"] == role).to_numpy()) for role in ("validation", "test"))
    if len(seen) < FEWEST:
        return f"{len(seen)} validation patients with {' or '.join(CLINICAL)}; the layer needs at least {FEWEST}"
    z = Reduction.fit(source_matrix(cohort, [cases[i] for i in seen], "clinical"), None)
    columns = np.concatenate([opinion(rows, learner), z(source_matrix(cohort, cases, "clinical"))], axis=1)
    model = learner.fit(columns[seen], [cases[i] for i in seen], PENALTY)
    judged = [cases[i] for i in tested]
    said = rows.iloc[tested][["patient_id", "site", "role"]].reset_index(drop=True)
    outputs = said.assign(model=name + SUFFIX, **learner.outputs(model, columns[tested], judged))
    described = {"baseline": name + SUFFIX, "beside": name, "covariates": list(CLINICAL), "patients": len(seen)}
    return Reference(
        outputs,
        {**described, "model": model.described(), "scaling": z.described()},
        learner.metadata(model, columns[seen], [cases[i] for i in seen]),
    )


def opinion(rows: pd.DataFrame, learner: Learner) -> Float[np.ndarray, "n c"]:
    """Return what a model said, on a scale on which covariates add: log hazard ratio, or log-odds."""
    if isinstance(learner, ClassLearner):
        probabilities = rows[[class_column(name) for name in learner.classes]].to_numpy(float)
        log_p = np.log(np.clip(probabilities, 1e-6, 1.0))
        return np.asarray(log_p[:, 1:] - log_p[:, :1])
    return _log_cumulative_hazard(rows, learner)


def _log_cumulative_hazard(rows: pd.DataFrame, learner: SurvivalLearner) -> np.ndarray:
    survival = np.clip(rows[list(learner.horizons)].to_numpy(float), 1e-6, 1 - 1e-6)
    return np.asarray(np.log(-np.log(survival)).mean(axis=1, keepdims=True))
