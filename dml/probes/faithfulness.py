"""Faithfulness of maps: do the tiles that contribute most decide the output, more than those attended to most.

    faithfulness = mean over shares q of I(q) - D(q)        curves: dml.attribution.tile_curves

Of the first member of each fold. Shape legend: q shares, p patients.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dml.attribution.tile_curves import SHARES, patient_curves
from dml.evaluation.intervals import bootstrap_weights, difference, estimate
from dml.evaluation.metrics import Metric, ratio
from dml.evaluation.results import PAIR
from dml.probes.fold_models import FoldModels, select_member

ORDERS = ("contribution", "attention", "random")
MIN_TILES = 10
"""Tiles at the finest resolution below which a patient's curves have no shape."""


def probe_faithfulness(
    folds: Sequence[FoldModels], max_patients: int, repeats: int, resamples: int, confidence: float, seed: int
) -> dict[str, Any]:
    """Compare orders of tiles by what their deletion and insertion do to the output.

    Parameters
    ----------
    max_patients : int
        Test patients with enough tiles that are probed, drawn at random, the same share of each fold.
    repeats : int
        Random orders of each patient, which are averaged.

    Returns
    -------
    dict
        ``patients``, ``shares``, and per model and order the mean curves ``deletion`` and ``insertion`` (output less
        that of all tiles) and ``faithfulness`` with interval; ``differences`` of contribution to the other orders,
        paired. ``left_out`` says why there is nothing.
    """
    chosen = _choose(folds, max_patients, seed)
    if not chosen:
        return {"left_out": f"no test patient has {MIN_TILES} tiles"}
    weights = bootstrap_weights(np.array([one.fold for one, _ in chosen]), resamples, seed)
    result: dict[str, Any] = {"patients": len(chosen), "shares": list(SHARES)}
    for name in PAIR:
        curves = [
            patient_curves(
                select_member(one.models[name], 0),
                one.test.subset({patient}),
                repeats,
                np.random.default_rng([seed, i]),
            )
            for i, (one, patient) in enumerate(chosen)
        ]
        result[name] = _summarise(curves, weights, confidence)
    return result


def _choose(folds: Sequence[FoldModels], most: int, seed: int) -> list[tuple[FoldModels, str]]:
    """Draw test patients with enough tiles, in the order of folds and ids."""
    able = [
        (one, case.patient_id)
        for one in folds
        for case in one.test.cases
        if case.bags and min(len(bag) for bag in case.bags.values()) > 1
        if max(len(bag) for bag in case.bags.values()) >= MIN_TILES
    ]
    drawn = np.random.default_rng(seed).permutation(len(able))[:most]
    return [able[i] for i in sorted(drawn.tolist())]


def _summarise(curves: Sequence[Mapping[str, np.ndarray]], weights: np.ndarray, confidence: float) -> dict[str, Any]:
    stacked = {name: np.stack([patient[name] for patient in curves]) for name in ORDERS}  # p 2 q
    metrics = {name: _mean((values[:, 1] - values[:, 0]).mean(1)) for name, values in stacked.items()}
    summary: dict[str, Any] = {"differences": {}}
    for name, values in stacked.items():
        area = estimate(metrics[name], weights, confidence)
        summary[name] = {
            "deletion": [round(float(x), 6) for x in values[:, 0].mean(0)],
            "insertion": [round(float(x), 6) for x in values[:, 1].mean(0)],
            "faithfulness": None if area is None else area.to_json(),
        }
    for name in ORDERS[1:]:
        paired = difference(metrics["contribution"], metrics[name], weights, confidence)
        summary["differences"][name] = None if paired is None else paired.to_json()
    return summary


def _mean(values: np.ndarray) -> Metric:
    return lambda weights: ratio(weights @ values, weights.sum(axis=1))
