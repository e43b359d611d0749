"""Units of expression: what may become what, and what cannot be what it claims to be.

log2_x means log2(x + 1). Counts become counts per million (cpm), FPKM becomes TPM by rescaling each patient to one
million (Pachter 2011, arXiv 1104.3889); both need the whole transcriptome, so they come before any choice of genes.
Z-scores are never logged.
"""

from collections.abc import Callable

import numpy as np

from dml.errors import ConfigError, InputError

Values = np.ndarray

DEFAULT = {"counts": "log2_cpm", "tpm": "log2_tpm", "fpkm": "log2_fpkm", "fpkm_uq": "log2_fpkm_uq"}
LINEAR = frozenset(DEFAULT)
LARGEST_LOG2 = 40.0
LARGEST_TYPICAL_ZSCORE = 5.0


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


def check_unit(values: Values, unit: str, where: object) -> None:
    """Refuse values that their unit cannot have.

    Raises
    ------
    InputError
        If linear units are negative, a logarithm is impossibly large, or most z-scores are.
    """
    if not values.size:
        return
    low, high = float(values.min()), float(values.max())
    if unit in LINEAR and low < 0:
        raise _wrong(where, unit, f"negative values (down to {low:g})", "log2_... or zscore")
    if unit.startswith("log2") and high > LARGEST_LOG2:
        raise _wrong(where, unit, f"values up to {high:g}", unit.removeprefix("log2_"))
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
    ("tpm", "log2_tpm"): _log2,
    ("fpkm", "log2_fpkm"): _log2,
    ("fpkm", "log2_tpm"): lambda x: _log2(_per_million(x)),
    ("fpkm_uq", "log2_fpkm_uq"): _log2,
    ("fpkm_uq", "log2_tpm"): lambda x: _log2(_per_million(x)),
    ("log2_fpkm", "log2_tpm"): lambda x: _log2(_per_million(_linear(x))),
    ("log2_fpkm_uq", "log2_tpm"): lambda x: _log2(_per_million(_linear(x))),
}
