"""Units of expression: what may become what, and what cannot be what it claims to be.

log2_x means log2(x + 1). Counts become counts per million (cpm), FPKM becomes TPM by rescaling each patient to one
million (Pachter 2011, arXiv 1104.3889); both need the whole transcriptome, so they come before any choice of genes.
Z-scores are never logged.
"""

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd

from dml.core.errors import ConfigError, InputError, listed

Values = np.ndarray

LINEAR = frozenset({"counts", "tpm", "fpkm", "fpkm_uq", "rsem"})
DEFAULT = {
    **{unit: f"log2_{unit}" for unit in LINEAR},
    "counts": "log2_cpm",
    "log2_counts": "log2_cpm",  # library sizes are not expression
}
MAX_LINEAR = {"tpm": 1.001e6, "cpm": 1.001e6, "fpkm": 1e7, "rsem": 1e9, "counts": 1e10, "fpkm_uq": 1e11}
"""Largest value of a gene: of a unit per million the million itself, of the others more than was ever published."""
LOWEST_LOG2 = -20.0
"""Lower than the logarithm of any offset in use; batch correction stays far above it."""
SENTINELS = (-99.0, -999.0, -9999.0, -99999.0, 99999.0, 9999.0, 999.0)
"""Numbers that mean missing; among z-scores nothing else tells them."""
LOWEST_ZSCORE = -90.0
"""Published ones reach -5 and +40,000: expression has no tail to the left, and codes of missing values do."""
MAX_TYPICAL_ZSCORE = 5.0
MAX_NEGATIVE = 0.01
"""Share of a log2(x + 1) matrix that may be negative, as batch correction leaves a few values."""
MIN_VALUES = 500
"""Values from which their distribution is compared with the unit."""
MIN_SAMPLES, MIN_PANEL = 10, 50
"""Samples and genes from which one sample is compared with the others."""
MIN_LINEAR, TOLERANCE_LOG2 = 200.0, 0.7
"""99th percentile from which values are surely no logarithms; deviation that a logarithm taken twice may show."""
MIN_TRANSCRIPTOME = 10_000
"""Genes from which a matrix is a whole transcriptome, whose sum per patient is known."""
MILLION = (2.5e5, 1.05e6)
"""Sums per patient of a whole transcriptome per million; protein-coding genes alone have less."""
MAX_LOGGED = 25.0
"""Linear values all below this look like logarithms: 2^25 is 33 million."""
MAX_LOGGED_TWICE = 4.5
"""Logarithms all below this look logged twice: log2(log2(4,000,000))."""
MAX_FRACTIONAL = 0.01
"""Share of counts that may be no whole numbers."""


def stored_unit(unit: str) -> str:
    """Return the unit that a matrix is stored in unless the description says otherwise."""
    return DEFAULT.get(unit, unit)


def convert(values: Values, unit: str, to: str) -> Values:
    """Convert a matrix [patients genes] from one unit to another.

    Raises
    ------
    ConfigError
        If the conversion has no meaning; the message lists the possible ones.
    """
    if unit == to:
        return values
    if (unit, to) not in _CONVERSIONS:
        possible = sorted(b for a, b in _CONVERSIONS if a == unit)
        raise ConfigError(
            f"expression.convert: {unit} cannot become {to}; it can become {', '.join([unit, *possible])}"
        )
    return _CONVERSIONS[unit, to](values)


def with_offset_one(values: Values, offset: float) -> Values:
    """Turn log2(x + offset) into log2(x + 1); what noise put below zero becomes zero."""
    return values if offset == 1.0 else _log2(np.maximum(np.exp2(values) - offset, 0.0))


def refuse_impossible(frame: pd.DataFrame, unit: str, where: object, offset: float = 1.0) -> None:
    """Refuse cells that no sample can have in a unit: sentinels, negative counts, logarithms of nothing.

    Parameters
    ----------
    frame : DataFrame
        Samples, named by patient, by genes; empty cells are ignored.

    Raises
    ------
    InputError
        Naming gene and patient of the first cells, and the unit that would explain them if they are many.
    """
    values = frame.to_numpy(np.float64)
    low, high = _limits(unit, offset)
    wrong = (values < low) | (values > high) | np.isin(values, SENTINELS if unit == "zscore" else ())
    wrong &= np.isfinite(values)
    if not wrong.any():
        _refuse_odd_samples(frame, unit, where)
        return
    cells = [
        f"{values[p, g]:g} (gene {frame.columns[g]} of patient {frame.index[p]})" for p, g in np.argwhere(wrong)[:3]
    ]
    problem = f"{wrong.sum()} values cannot be {unit}: {', '.join(cells)}"
    remedy = "Leave cells without a value empty (expression.missing: drop_genes leaves their genes out)"
    if wrong.mean() > MAX_NEGATIVE:
        remedy += f". More likely they are {_instead(unit, bool((values[wrong] < low).any()))}: correct expression.unit"
    raise InputError(str(where), problem, remedy)


def _refuse_odd_samples(frame: pd.DataFrame, unit: str, where: object) -> None:
    """Refuse samples of another unit than the rest, and such without any difference between genes."""
    values = frame.to_numpy(np.float64)
    if values.shape[0] < MIN_SAMPLES or values.shape[1] < MIN_PANEL:
        return
    high = np.nanquantile(values, 0.99, axis=1)
    typical = float(np.median(high))
    for problem, odd in _oddities(values, high, typical, unit):
        if odd.any():
            names = listed([f"{frame.index[i]} (99th percentile {high[i]:.3g})" for i in np.flatnonzero(odd).tolist()])
            remedy = "Correct these samples, or list the patients under `exclude`"
            raise InputError(str(where), f"{names}: {problem}", remedy)


def _oddities(values: Values, high: Values, typical: float, unit: str) -> Iterator[tuple[str, np.ndarray]]:
    """Yield what may be wrong with single samples, and with which, from their and the typical 99th percentile."""
    yield "all genes have one value", np.nanmax(values, axis=1) == np.nanmin(values, axis=1)
    if unit in LINEAR:
        logged = (high < MAX_LOGGED) & (typical > MIN_LINEAR)
        yield f"values look like logarithms (the others reach {typical:g})", logged
    elif unit.startswith("log2_") and typical > 0:
        twice = (np.abs(high - np.log2(typical + 1)) < TOLERANCE_LOG2) & (high < typical / 2)
        yield f"values look logged twice (the others reach {typical:.3g})", twice


def check_unit(values: Values, unit: str, where: object, offset: float = 1.0, confirmed: bool = False) -> None:
    """Refuse values that their unit cannot have, or whose distribution contradicts it.

    Parameters
    ----------
    values : array, patients by genes
        Finite.
    offset : float
        The c of log2(x + c).
    confirmed : bool
        Whether the description says that the unit is right against the distribution (``unit_confirmed: true``).

    Raises
    ------
    InputError
        With the reading of the values in the declared unit and in the more likely one.
    """
    if not values.size:
        return
    low, high = _limits(unit, offset)
    smallest, largest = float(values.min()), float(values.max())
    if smallest < low or largest > high:
        problem = f"values up to {largest:g}" if largest > high else f"negative values (down to {smallest:g})"
        raise _wrong(where, unit, problem, _instead(unit, smallest < low))
    if confirmed:
        return
    for problem, instead in _contradictions(values, unit, offset):
        raise _wrong(where, unit, problem, instead)


def _limits(unit: str, offset: float) -> tuple[float, float]:
    """Return the lowest and the highest possible value."""
    if unit == "zscore":
        return LOWEST_ZSCORE, np.inf
    highest = MAX_LINEAR[unit.removeprefix("log2_")]
    if unit in LINEAR:
        return 0.0, highest
    return LOWEST_LOG2 if offset == 1.0 else float(np.log2(offset)) - 0.01, float(np.log2(highest + offset))


def _instead(unit: str, negative: bool) -> str:
    if negative:
        return "log2_... or zscore" if unit in LINEAR else "zscore, or of another expression.log_offset"
    return unit.removeprefix("log2_") if unit.startswith("log2_") else "counts"


def _contradictions(values: Values, unit: str, offset: float) -> Iterator[tuple[str, str]]:
    """Yield what the distribution says against the unit, and what it may be instead."""
    many = values.size >= MIN_VALUES
    if unit == "zscore":
        yield from _zscore(values, many)
    elif unit in LINEAR and many:
        yield from _linear_unit(values, unit)
    elif unit not in LINEAR:
        yield from _logarithm(values, unit, offset, many)
    if unit.removeprefix("log2_") in ("tpm", "cpm"):
        yield from _per_million_sums(values if unit in LINEAR else np.exp2(values) - offset, unit)


def _zscore(values: Values, many: bool) -> Iterator[tuple[str, str]]:
    if many and values.min() >= 0:
        yield f"{values.size} values without a negative one", "a logarithm, counts, tpm or fpkm"
    typical = float(np.median(np.abs(values)))  # single published z-scores reach thousands (genes silent in most)
    if typical > MAX_TYPICAL_ZSCORE:
        yield f"values around {typical:g}", "counts, tpm or fpkm, or a logarithm of one"


def _linear_unit(values: Values, unit: str) -> Iterator[tuple[str, str]]:
    largest = float(values.max())
    whole = float((values == np.round(values)).mean())
    if largest < MAX_LOGGED:
        reading = f"{2**largest - 1:,.0f}"
        yield f"no value above {largest:g} (as log2_{unit} it is {reading}, as {unit} very little)", f"log2_{unit}"
    if unit == "counts" and whole < 1 - MAX_FRACTIONAL:
        yield f"{1 - whole:.0%} of the values are no whole numbers", "tpm, fpkm or rsem"
    if unit in ("tpm", "fpkm", "fpkm_uq") and whole == 1.0:
        yield f"all values are whole numbers (up to {largest:g})", "counts"


def _logarithm(values: Values, unit: str, offset: float, many: bool) -> Iterator[tuple[str, str]]:
    smallest, largest = float(values.min()), float(values.max())
    negative = float((values < 0).mean())
    at_floor = int((np.abs(values - smallest) < 1e-4).sum())
    if offset == 1.0 and negative > MAX_NEGATIVE:
        yield f"{negative:.0%} negative values", f"zscore, or log_offset: {2**smallest:.2g} is missing"
    if offset < 1.0 and at_floor > 1 and abs(smallest - np.log2(offset)) > 0.01:
        zero = f"log2(x + {offset:g}) of nothing is {np.log2(offset):.2f}, the lowest value is {smallest:.2f}"
        yield f"{zero} ({at_floor} times)", f"log_offset: {2**smallest:g}"
    if many and largest < MAX_LOGGED_TWICE:
        linear = unit.removeprefix("log2_")
        reading = f"no gene above {2**largest - offset:.0f} {linear}"
        yield f"no value above {largest:g} ({reading})", f"{unit} that was logged twice; then un-log it once"


def _per_million_sums(linear: Values, unit: str) -> Iterator[tuple[str, str]]:
    sums = linear.sum(axis=1)
    if (largest := float(sums.max())) > MILLION[1]:
        yield f"the genes of a patient sum to {largest:,.0f}, not to a million", "counts, fpkm or rsem"
    typical = float(np.median(sums))
    if linear.shape[1] >= MIN_TRANSCRIPTOME and typical < MILLION[0]:
        problem = f"the {linear.shape[1]} genes of a patient sum to {typical:,.0f}, not to a million"
        yield problem, "fpkm, or a logarithm of another base, or logged twice"


def _wrong(where: object, unit: str, problem: str, instead: str) -> InputError:
    remedy = (
        f"More likely it is {instead}: correct the description, or confirm the unit by expression.unit_confirmed: true"
    )
    return InputError(str(where), f"{problem}: this cannot be {unit}", remedy)


def _log2(values: Values) -> Values:
    return np.asarray(np.log2(values + 1.0))


def _per_million(values: Values) -> Values:
    totals = values.sum(axis=1, keepdims=True)
    return np.asarray(np.divide(values * 1e6, totals, out=np.zeros_like(values), where=totals > 0))


def _linear(values: Values) -> Values:
    return np.asarray(np.maximum(np.exp2(values) - 1.0, 0.0))


_CONVERSIONS: dict[tuple[str, str], Callable[[Values], Values]] = {
    ("counts", "log2_cpm"): lambda x: _log2(_per_million(x)),
    ("counts", "log2_counts"): _log2,
    ("log2_counts", "log2_cpm"): lambda x: _log2(_per_million(_linear(x))),
    ("rsem", "log2_rsem"): _log2,
    ("rsem", "log2_cpm"): lambda x: _log2(_per_million(x)),
    ("tpm", "log2_tpm"): _log2,
    ("fpkm", "log2_fpkm"): _log2,
    ("fpkm", "log2_tpm"): lambda x: _log2(_per_million(x)),
    ("fpkm_uq", "log2_fpkm_uq"): _log2,
    ("fpkm_uq", "log2_tpm"): lambda x: _log2(_per_million(x)),
    ("log2_fpkm", "log2_tpm"): lambda x: _log2(_per_million(_linear(x))),
    ("log2_fpkm_uq", "log2_tpm"): lambda x: _log2(_per_million(_linear(x))),
}
