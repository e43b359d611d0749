"""Flips of the classes of a label, as by a site that records them wrongly, and how many of them a correction met.

Shape legend: n patients, k classes.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from jaxtyping import Float, Int

from dml.core.tasks import Task
from dml.core.types import Cohort

Labels = Mapping[str, str]
"""Patient to class."""


def transition_matrix(share: float, classes: int) -> Float[np.ndarray, "k k"]:
    """Return the probability of each recorded class (column) for each true class (row) at the noisy sites.

    Classes are flipped at rates that fall evenly from 1.25 to 0.75 times the share, in the order in which the cohort
    declares them, to each other class alike.

    Examples
    --------
    >>> transition_matrix(0.4, 2).round(2).tolist()
    [[0.5, 0.5], [0.3, 0.7]]
    """
    rates = share * np.linspace(1.25, 0.75, classes)
    matrix = np.repeat(rates[:, None] / (classes - 1), classes, axis=1)
    np.fill_diagonal(matrix, 1 - rates)
    return matrix


def flip_labels(
    labels: Int[np.ndarray, "n"], transition: Float[np.ndarray, "k k"], draws: Float[np.ndarray, "n 2"]
) -> Int[np.ndarray, "n"]:
    """Return the recorded classes of patients.

    Parameters
    ----------
    labels : array, n
        True classes.
    transition : array, k k
        From `transition_matrix`.
    draws : array, n 2
        Uniform numbers: the first decides whether a label is flipped, the second to which class.
    """
    others = transition.copy()
    np.fill_diagonal(others, 0.0)
    steps = others.cumsum(axis=1)[labels]
    to = (draws[:, 1:] * steps[:, -1:] >= steps).sum(axis=1)
    return np.where(draws[:, 0] < steps[:, -1], to, labels)


def set_labels(cohort: Cohort, task: Task, labels: Labels) -> Cohort:
    """Return patients with other classes of one label; those who are not named have none."""
    cases = []
    for case in cohort.cases:
        others = {name: label for name, label in case.labels.items() if name != task.name}
        new = {task.name: labels[case.patient_id]} if case.patient_id in labels else {}
        cases.append(replace(case, labels=others | new))
    return replace(cohort, cases=tuple(cases))


def count_corrections(truth: Labels, recorded: Labels, used: Labels) -> dict[str, int]:
    """Count the flipped labels, those that an arm changed or removed, those of both, and those made right.

    Examples
    --------
    >>> truth, recorded = {"A": "x", "B": "x", "C": "y"}, {"A": "y", "B": "x", "C": "y"}
    >>> count_corrections(truth, recorded, {"A": "x", "B": "y"})
    {'labelled': 3, 'flipped': 1, 'changed': 3, 'detected': 1, 'restored': 1}
    """
    flipped = {patient for patient in truth if truth[patient] != recorded[patient]}
    changed = {patient for patient in recorded if used.get(patient) != recorded[patient]}
    restored = {patient for patient in changed & flipped if used.get(patient) == truth[patient]}
    sets = {"flipped": flipped, "changed": changed, "detected": changed & flipped, "restored": restored}
    return {"labelled": len(truth), **{name: len(members) for name, members in sets.items()}}
