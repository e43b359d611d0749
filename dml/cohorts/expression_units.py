"""Units of expression: what may become what, and what cannot be what it claims to be.

log2_x means log2(x + 1). Counts become counts per million (cpm), FPKM becomes TPM by rescaling each patient to one
million (Pachter 2011, arXiv 1104.3889); both need the whole transcriptome, so they come before any choice of genes.
Z-scores are never logged.
"""

from collections.abc import Callable

import numpy as np

from dml.core.errors import ConfigError, InputError

Values = np.ndarray

LINEAR = frozenset({"counts", "tpm", "fpkm", "fpkm_uq", "rsem"})
DEFAULT = {
    **{unit: f"log2_{unit}" for unit in LINEAR},
    "counts": "log2_cpm",
    "log2_counts": "log2_cpm",  # library sizes are not expression
}
LARGEST_LOG2 = 40.0
LARGEST_TYPICAL_ZSCORE = 5.0
MOST_NEGATIVE = 0.01
"""Share of a log2(x + 1) matrix that may be negative, as batch correction leaves a few values."""
ENOUGH = 1000
"""Values from which a matrix without a negative one cannot be z-scores."""


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


def check_unit(values: Values, unit: str, where: object, offset: float = 1.0) -> None:
    """Refuse values that their unit cannot have.

    Raises
    ------
    InputError
        If linear units are negative, a logarithm is impossibly large or often negative (with an `offset` of 1), most
        z-scores are large, or none of many is negative.
    """
    if not values.size:
        return
    low, high = float(values.min()), float(values.max())
    if unit in LINEAR and low < 0:
        raise _wrong(where, unit, f"negative values (down to {low:g})", "log2_... or zscore")
    if unit.startswith("log2") and high > LARGEST_LOG2:
        raise _wrong(where, unit, f"values up to {high:g}", unit.removeprefix("log2_"))
    if unit.startswith("log2") and offset == 1.0 and float((values < 0).mean()) > MOST_NEGATIVE:
        raise _wrong(where, unit, f"{(values < 0).mean():.0%} negative values", "zscore, or log_offset missing")
    if unit == "zscore" and low >= 0 and values.size >= ENOUGH:
        raise _wrong(where, unit, f"{values.size} values without a negative one", "a logarithm, counts, tpm or fpkm")
    typical = float(np.median(np.abs(values)))  # single published z-scores reach thousands (genes silent in most)
    if unit == "zscore" and typical > LARGEST_TYPICAL_ZSCORE:
        raise _wrong(where, unit, f"values around {typical:g}", "counts, tpm or fpkm, or a logarithm of one")


def _wrong(where: object, unit: str, found: str, instead: str) -> InputError:
    return InputError(str(where), f"{found} cannot be {unit}", f"Is `expression.unit` rather {instead}?")


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
