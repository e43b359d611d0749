"""The preprocessing of all sites, fitted by the server to their sums and counts.

Token scaling, class weights and covariates are those of the pooled patients exactly; quantiles (ends of genes, time
bins) are exact up to a cell of a histogram; the cumulative hazard is the actuarial estimate on half months.

Source: sums of squares and histograms as sketches, e.g. Cormode and Yi, Small Summaries for Big Data, 2020.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import special

from dml.config import params as config
from dml.core.errors import InputError
from dml.core.tasks import Task
from dml.data.baseline_hazard import MAX_POINTS, BaselineHazard
from dml.data.preprocessing import WINSOR_QUANTILE, Preprocessor, Scaling, raise_small_deviations
from dml.federation.messages import DAY_GRID, HISTOGRAM_CELLS, HISTOGRAM_DEVIATIONS, Message

Sums = Mapping[str, np.ndarray]


def add_messages(messages: Sequence[Message]) -> Sums:
    """Sum the arrays of all sites; a site without slides has no tokens to add."""
    total: dict[str, np.ndarray] = {}
    for message in messages:
        for name, array in message.arrays.items():
            total[name] = total[name] + array if name in total else array.astype(np.float64)
    return total


def moments(sums: Sums, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation; a constant column has deviation 1, as in `Scaling.fit`."""
    count = np.maximum(sums[f"{name}_count"], 1)
    mean = sums[f"{name}_sum"] / count
    deviation = np.sqrt(np.maximum(sums[f"{name}_square_sum"] / count - mean**2, 0.0))
    return mean, np.where(deviation > 1e-6, deviation, 1.0)


def cell_quantiles(cells: np.ndarray, mean: np.ndarray, deviation: np.ndarray, share: float) -> np.ndarray:
    """Return a quantile of each gene [g] from its histogram, straight inside a cell."""
    total = np.cumsum(cells, axis=1)
    wanted = share * total[:, -1]
    edges = np.linspace(-HISTOGRAM_DEVIATIONS, HISTOGRAM_DEVIATIONS, HISTOGRAM_CELLS + 1)
    positions = [np.interp(w, np.concatenate([[0.0], row]), edges) for w, row in zip(wanted, total, strict=True)]
    return np.asarray(mean + deviation * np.array(positions).reshape(len(mean)))


def clip_ends(cells: np.ndarray, mean: np.ndarray, deviation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the values that each gene is clipped to."""
    low, high = (cell_quantiles(cells, mean, deviation, q) for q in (WINSOR_QUANTILE, 1 - WINSOR_QUANTILE))
    return low.astype(np.float32), high.astype(np.float32)


def baseline_hazard(deaths: np.ndarray, exits: np.ndarray) -> BaselineHazard:
    """Estimate the cumulative hazard on the grid of days.

    Of d deaths in a cell it is the sum of 1/n, 1/(n-1), ..., one after the other; half of those censored in the cell
    were at risk.
    """
    at_risk = exits.sum() - np.concatenate([[0.0], np.cumsum(exits)[:-1]])
    exposed = np.maximum(at_risk - (exits - deaths) / 2, deaths)
    cells = np.flatnonzero(deaths)
    steps = special.digamma(exposed + 1) - special.digamma(exposed - deaths + 1)
    total = np.cumsum(steps[cells])
    if len(cells) > MAX_POINTS:
        index = np.unique(np.linspace(0, len(cells) - 1, MAX_POINTS).round().astype(int))
        cells, total = cells[index], total[index]
    ends = DAY_GRID[cells] + (DAY_GRID[1] - DAY_GRID[0])
    return BaselineHazard(days=np.concatenate([[0.0], ends]), hazard=np.concatenate([[0.0], total]))


def time_bins(deaths: np.ndarray, number: int) -> np.ndarray:
    """Return the edges of time bins: quantiles of the days of death, straight inside a cell."""
    total = np.concatenate([[0.0], np.cumsum(deaths)])
    step = DAY_GRID[1] - DAY_GRID[0]
    edges = np.concatenate([DAY_GRID, [DAY_GRID[-1] + step]])
    strict = np.concatenate([[True], np.diff(total) > 0])  # between deaths the curve does not move
    return np.unique(np.interp(np.linspace(0, 1, number + 1)[1:-1] * total[-1], total[strict], edges[strict]))


def pool_preprocessor(
    task: Task,
    params: config.Params,
    sums: Sums,
    genes: tuple[Scaling, Scaling],
    names: tuple[tuple[str, ...], tuple[str, ...]],
    unit: str,
    tile_um: tuple[float, ...],
) -> Preprocessor:
    """Fit the preprocessing of all sites.

    Parameters
    ----------
    sums : mapping
        Of `summarise_patients`, added up.
    genes, names : pair
        Scaling and names of the genes of tumor and microenvironment.

    Raises
    ------
    InputError
        If no site has a death, or a class.
    """
    edges, base, baseline, last_day = np.zeros(0), np.zeros(len(task.classes)), None, 0.0
    if task.kind == "survival":
        if not sums["deaths"].sum():
            raise InputError("federation", "no site has a death among its learning patients", "Wait for follow-up")
        edges, baseline = (
            time_bins(sums["deaths"], params.inputs.time_bins),
            baseline_hazard(sums["deaths"], sums["exits"]),
        )
        hazards = baseline.base_hazards(edges.tolist())
        base, last_day = np.log(hazards) - np.log1p(-hazards), float(DAY_GRID[np.flatnonzero(sums["exits"])[-1] + 1])
    elif task.kind == "regression":
        raise InputError("federation", "numbers are not trained across sites yet", "Train survival or a label")
    counts = sums["class_count"]
    if len(counts) and not counts.all():
        absent = [name for name, count in zip(task.classes, counts, strict=True) if not count]
        raise InputError("federation", f"no site has a patient of {', '.join(absent)}", "Leave the class out")
    token_mean = sums["token_sum"] / sums["bags"]
    deviation = np.sqrt(np.maximum(sums["token_square_sum"] / sums["bags"] - token_mean**2, 0.0))
    covariate_mean, covariate_deviation = moments(sums, "covariate")
    return Preprocessor(
        task=task,
        class_weights=counts.sum() / (len(counts) * counts) if len(counts) else np.zeros(0),
        bin_edges=edges,
        last_day=last_day,
        base_logits=base,
        baseline=baseline,
        encoder=params.embed.encoder,
        mpps=tuple(sorted(params.tiles.mpps)),
        tile_um=tile_um,
        tokens=Scaling(mean=token_mean, deviation=raise_small_deviations(deviation)),
        unit=unit,
        tumor_genes=names[0],
        tme_genes=names[1],
        tumor=genes[0],
        tme=genes[1],
        covariate_names=params.inputs.covariates,
        covariates=Scaling(mean=covariate_mean, deviation=covariate_deviation),
    )
