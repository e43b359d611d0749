"""Late fusion with age and sex: a linear model on a base model's out-of-fold predictions and the covariates.

    survival         h(t) = h_0(t) exp(b eta + c . z),     eta = mean over the horizons of log(-log S(t))
    classification   p = softmax(W [log-odds of the model; z])
    regression       y = a + b . [number of the model; z]

eta is the model's log hazard ratio wherever hazards are proportional. A few coefficients are fitted on predictions for
inner validation patients (stacking: Wolpert 1992), so that every model is shown without and with the covariates at no
cost; a missing covariate counts as the mean.

Shape legend: n patients.
"""

import numpy as np
import pandas as pd

from dml.baselines.linear.fit import BaselineResult
from dml.baselines.linear.regression import Regression
from dml.core.model_name import ModelName
from dml.core.types import CLINICAL, Cohort
from dml.linear_models.design_matrix import Reduction, source_matrix

PENALTY = 0.01
"""Ridge penalty: with this few columns it only keeps separable data finite."""
MIN_PATIENTS = 20
"""Validation patients below which nothing is fitted."""


def fit_late_fusion(name: str, rows: pd.DataFrame, cohort: Cohort, regression: Regression) -> BaselineResult | str:
    """Fit on a model's validation rows and predict its test rows.

    Parameters
    ----------
    name : str
        Key of the model registry.
    rows : DataFrame
        The model's predictions in one fold; only rows of role validation are fitted to.
    cohort : Cohort
        Covariates and targets of the patients.
    regression : Regression
        Of the task.

    Returns
    -------
    BaselineResult or str
        The fused model, or why there is none.
    """
    by_id = {case.patient_id: case for case in cohort.cases}
    cases = [by_id[patient] for patient in rows["patient_id"]]
    usable = np.array([case.has_clinical and regression.task.is_known(case) for case in cases], bool)
    validation, test = (np.flatnonzero(usable & (rows["role"] == role).to_numpy()) for role in ("validation", "test"))
    if len(validation) < MIN_PATIENTS:
        number = f"{len(validation)} validation patients with {' or '.join(CLINICAL)}"
        return f"{number}; late fusion needs at least {MIN_PATIENTS}"
    fitted_to, predicted = [cases[i] for i in validation], [cases[i] for i in test]
    scaling = Reduction.fit(source_matrix(cohort, fitted_to, "clinical"), None)
    covariates = scaling(source_matrix(cohort, cases, "clinical"))
    columns = np.concatenate([regression.linear_predictor(rows), covariates], axis=1)
    model = regression.fit(columns[validation], fitted_to, PENALTY)
    fused_name = str(ModelName.parse(name).with_clinical())
    fused = rows.iloc[test][["patient_id", "site", "role"]].reset_index(drop=True)
    description = {
        "name": fused_name,
        "base": name,
        "covariates": list(CLINICAL),
        "training_patients": len(validation),
        "model": model.describe(),
        "scaling": scaling.describe(),
    }
    return BaselineResult(
        fused.assign(model=fused_name, **regression.predict(model, columns[test], predicted)),
        description,
        regression.metadata(model, columns[validation], fitted_to),
    )
