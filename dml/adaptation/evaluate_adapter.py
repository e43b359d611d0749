"""Frozen against adapted: linear probes on sections that neither the adapter nor the probe was trained on.

Shape legend: n spots, d width of a token, b resamples.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import nn

from dml.adaptation.expression_programs import ExpressionPrograms, group_score, log_counts, make_programs
from dml.adaptation.spot_tiles import SpotTiles
from dml.adaptation.train_adapter import AdapterSettings, TrainableTail, train_adapter
from dml.cohorts.spot_store import REGION
from dml.core.types import SUBSPACES, GeneGroups
from dml.spatial.statistics import auc, interval, spearman

MARKERS = ("EPCAM", "ERBB2", "COL1A1", "PTPRC")
"""Single genes that are probed where they are measured: epithelium, its amplified gene, stroma, leucocytes."""
MIN_SPOTS = 10
"""Spots inside and outside a region, in a section, from which its AUC is computed."""
BLOCK_UM = 1000.0
"""Side of the blocks of neighbouring spots that are drawn together in the bootstrap."""

Probe = Callable[[Float[np.ndarray, "m d"], np.ndarray, Float[np.ndarray, "n d"]], Float[np.ndarray, "n"]]


@dataclass(frozen=True, slots=True)
class ProbeTarget:
    """What a probe predicts of a spot: a number (Spearman) or a region (AUC); `known` spots only."""

    name: str
    values: np.ndarray
    known: Bool[np.ndarray, "n"]

    @property
    def is_region(self) -> bool:
        """Whether the target is a region."""
        return self.values.dtype == bool


def leave_sections_out(
    spots: SpotTiles, tail: TrainableTail, groups: GeneGroups, spacing_um: float, settings: AdapterSettings,
    resamples: int = 1000, confidence: float = 0.95,
) -> pd.DataFrame:  # fmt: skip
    """Compare the frozen encoder with adapters, each trained without the section that it is probed on.

    Parameters
    ----------
    spots : SpotTiles
        All sections; at least two.
    tail : TrainableTail
        Made of their tiles.
    groups : GeneGroups
        Tumor and TME genes.
    spacing_um : float
        Of the spots; blocks of the bootstrap are squares of a millimetre.
    settings : AdapterSettings
        How adapters are trained.
    resamples, confidence
        Of the interval of the difference: blocks of spots are drawn within each section.

    Returns
    -------
    DataFrame
        One row a target: statistic (spearman or auc), frozen, adapted, difference, ci_low, ci_high: means over the
        sections, out of section.
    """
    logs, sections = log_counts(spots.counts), spots.sections
    names = sorted(set(sections))
    draws: dict[str, list[np.ndarray]] = {}
    kinds: dict[str, str] = {}
    for number, section in enumerate(names):
        test = sections == section
        programs, rows = stack_programs(logs, spots, groups, ~test)
        adapted, _ = train_adapter(tail, programs, rows, settings)
        tokens = {"frozen": encode(tail, tail.tail, len(test)), "adapted": encode(tail, adapted, len(test))}
        weights = draw_blocks(spots.spots[test], spacing_um, resamples, settings.seed + number)
        for target in probe_targets(spots, logs, groups, ~test):
            scored = _score(target, tokens, test, weights)
            if scored is not None:
                draws.setdefault(target.name, []).append(scored)
                kinds[target.name] = "auc" if target.is_region else "spearman"
    return _summarise(draws, kinds, confidence)


def stack_programs(
    logs: np.ndarray, spots: SpotTiles, groups: GeneGroups, training: Bool[np.ndarray, "n"]
) -> tuple[ExpressionPrograms, Int[np.ndarray, "m"]]:
    """Return the programs of the tiles of all resolutions, and the rows of training tiles among them."""
    programs = make_programs(logs, spots.genes, groups, training)
    copies = len(spots.tiles)
    stacked = ExpressionPrograms(np.tile(programs.values, (copies, 1)), programs.weights)
    return stacked, np.flatnonzero(np.tile(training, copies))


@torch.no_grad()
def encode(tail: TrainableTail, network: nn.Module, count: int) -> Float[np.ndarray, "n d"]:
    """Return the tokens of every spot, those of all resolutions side by side."""
    maps = tail.maps[0]
    tokens = torch.cat([network(maps[i : i + 32].float()) for i in range(0, len(maps), 32)]).numpy()
    return np.concatenate([tokens[i : i + count] for i in range(0, len(tokens), count)], axis=1)


def probe_targets(
    spots: SpotTiles, logs: np.ndarray, groups: GeneGroups, training: Bool[np.ndarray, "n"]
) -> list[ProbeTarget]:
    """Return the scores of both gene groups, measured markers, and annotated regions."""
    everywhere = np.ones(len(logs), bool)
    targets = [
        ProbeTarget(f"{s} genes", group_score(logs, spots.genes, getattr(groups, s), training), everywhere)
        for s in SUBSPACES
    ]
    targets += [
        ProbeTarget(gene, logs[:, spots.genes.index(gene)], everywhere) for gene in MARKERS if gene in spots.genes
    ]
    if REGION in spots.spots:
        known = spots.spots[REGION].notna().to_numpy(bool)
        targets += [
            ProbeTarget(f"region {name}", (spots.spots[REGION] == name).to_numpy(bool), known)
            for name in sorted(set(spots.spots[REGION].dropna()))
        ]
    return targets


def draw_blocks(spots: pd.DataFrame, spacing_um: float, resamples: int, seed: int) -> Float[np.ndarray, "b n"]:
    """Return weights of spots: all once, then resamples of whole blocks of neighbouring spots."""
    cells = np.floor(spots[["array_x", "array_y"]].to_numpy(float) * spacing_um / BLOCK_UM).astype(int)
    block = np.unique(cells, axis=0, return_inverse=True)[1].ravel()
    count = int(block.max()) + 1
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples)
    return np.concatenate([np.ones((1, len(block))), drawn[:, block]]).astype(float)


def _score(
    target: ProbeTarget, tokens: Mapping[str, np.ndarray], test: Bool[np.ndarray, "n"], weights: np.ndarray
) -> np.ndarray | None:
    """Return the statistic of frozen and adapted tokens [2 b] in one section; None where it has too few spots."""
    train, inside = ~test & target.known, test & target.known
    if target.is_region and any(
        min(target.values[part].sum(), (~target.values[part]).sum()) < MIN_SPOTS for part in (train, inside)
    ):
        return None
    of_known = weights[:, target.known[test]]
    rows = []
    for matrix in tokens.values():
        mean, scale = matrix[train].mean(axis=0), np.maximum(matrix[train].std(axis=0), 1e-6)
        scaled = (matrix - mean) / scale
        probe: Probe = _classify if target.is_region else _regress
        predicted = probe(scaled[train], target.values[train], scaled[inside])
        statistic = auc if target.is_region else spearman
        rows.append(statistic(predicted, target.values[inside], of_known))
    return np.stack(rows)


def _regress(train: np.ndarray, values: np.ndarray, test: np.ndarray) -> np.ndarray:
    from sklearn.linear_model import RidgeCV

    return np.asarray(RidgeCV(10.0 ** np.arange(1, 7)).fit(train, values).predict(test))


def _classify(train: np.ndarray, inside: np.ndarray, test: np.ndarray) -> np.ndarray:
    from sklearn.linear_model import RidgeClassifierCV

    model = RidgeClassifierCV(10.0 ** np.arange(1, 7), class_weight="balanced").fit(train, inside)
    return np.asarray(model.decision_function(test))


def _summarise(draws: Mapping[str, Sequence[np.ndarray]], kinds: Mapping[str, str], confidence: float) -> pd.DataFrame:
    rows = []
    for name, parts in draws.items():
        frozen, adapted = np.nanmean(np.stack(parts), axis=0)
        low, high = interval((adapted - frozen)[None, 1:], confidence)[:, 0]
        rows.append(
            {
                "target": name, "statistic": kinds[name], "sections": len(parts), "frozen": frozen[0],
                "adapted": adapted[0], "difference": adapted[0] - frozen[0], "ci_low": low, "ci_high": high,
            }
        )  # fmt: skip
    return pd.DataFrame(rows)
