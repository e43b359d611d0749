"""Sums and counts of a site's learning patients, from which the server fits the preprocessing of all sites.

Shape legend: d width of a token, g genes, c covariates, k classes.
"""

from collections.abc import Sequence

import numpy as np

from dml.core.tasks import Task
from dml.core.types import Cohort
from dml.data.preprocessing import covariate_values, gene_index
from dml.federation.messages import DAY_GRID, HISTOGRAM_CELLS, HISTOGRAM_DEVIATIONS, Message, number


def summarise_patients(cohort: Cohort, task: Task, genes: Sequence[str], covariates: Sequence[str]) -> Message:
    """Return sums of tokens, genes and covariates, counts of classes, and deaths and exits in cells of follow-up."""
    bags = [bag for case in cohort.cases for bag in case.bags.values() if len(bag)]
    means = [bag.tokens.double().numpy().mean(0) for bag in bags]
    squares = [(bag.tokens.double().numpy() ** 2).mean(0) for bag in bags]
    width = len(means[0]) if means else 0
    follow_up = [case.survival for case in cohort.cases if case.survival is not None]
    cells = np.searchsorted(DAY_GRID, [s.days for s in follow_up], side="right") - 1
    died = np.array([s.event for s in follow_up], bool)
    labels = [case.labels.get(task.name) for case in cohort.cases]
    rows = np.array([covariate_values(case, covariates) for case in cohort.cases], float)
    rows = rows.reshape(len(cohort.cases), len(covariates))
    return Message(
        {
            "bags": number(len(bags)),
            "token_sum": np.sum(means, axis=0) if bags else np.zeros(width),
            "token_square_sum": np.sum(squares, axis=0) if bags else np.zeros(width),
            **_sums(expression_rows(cohort, genes), "gene"),
            **_sums(rows, "covariate"),
            "class_count": np.array([labels.count(name) for name in task.classes], float),
            "deaths": np.bincount(cells[died], minlength=len(DAY_GRID)).astype(float),
            "exits": np.bincount(cells, minlength=len(DAY_GRID)).astype(float),
        }
    )


def expression_rows(cohort: Cohort, genes: Sequence[str]) -> np.ndarray:
    """Return the transcriptomes [patients g] in an order of genes."""
    index = gene_index(cohort.genes, genes)
    rows = [case.expression[index] for case in cohort.cases if case.expression is not None]
    return np.array(rows, float).reshape(len(rows), len(genes))


def count_cells(rows: np.ndarray, mean: np.ndarray, deviation: np.ndarray) -> Message:
    """Count the values of each gene in cells around its mean."""
    position = (rows - mean) / deviation / HISTOGRAM_DEVIATIONS  # -1 to 1
    cell = np.clip(((position + 1) / 2 * HISTOGRAM_CELLS).astype(int), 0, HISTOGRAM_CELLS - 1)
    cells = np.zeros((rows.shape[1], HISTOGRAM_CELLS))
    for i in range(rows.shape[1]):
        known = np.isfinite(rows[:, i])
        cells[i] = np.bincount(cell[known, i], minlength=HISTOGRAM_CELLS)
    return Message({"gene_cells": cells})


def clipped_sums(rows: np.ndarray, low: np.ndarray, high: np.ndarray) -> Message:
    """Return the sums of values clipped to the quantiles of all sites."""
    return Message(_sums(np.clip(rows, low, high), "gene"))


def _sums(rows: np.ndarray, name: str) -> dict[str, np.ndarray]:
    known = np.isfinite(rows)
    filled = np.where(known, rows, 0.0)
    return {
        f"{name}_count": known.sum(0).astype(float),
        f"{name}_sum": filled.sum(0),
        f"{name}_square_sum": np.square(filled).sum(0),
    }
