"""Subgroups of patients that `evaluation.subgroups` of params.yaml names: columns and the values they may have."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from dml.core.errors import InputError, listed


def patients_in_subgroup(patients: pd.DataFrame, rule: Mapping[str, tuple[str, ...]]) -> set[str]:
    """Ids of the patients whose columns have one of the allowed values (numbers are compared as printed, 1.0 as "1").

    Raises
    ------
    InputError
        If there is no such column.
    """
    inside = np.ones(len(patients), bool)
    for column, allowed in rule.items():
        if column not in patients.columns:
            remedy = f"Correct evaluation.subgroups in params.yaml; columns are {listed(list(patients.columns), 20)}"
            raise InputError("patients.parquet", f"no column {column!r} to form a subgroup", remedy)
        printed = patients[column].map(lambda cell: f"{cell:g}" if isinstance(cell, float) else str(cell))
        inside &= printed.isin(list(allowed)).to_numpy()
    return set(patients.loc[inside, "patient_id"])
