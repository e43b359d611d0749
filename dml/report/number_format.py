"""How reports print numbers: values with intervals, differences with signs, p-values."""

from collections.abc import Mapping
from typing import Any


def format_estimate(entry: Mapping[str, Any] | None, digits: int = 3, form: str = "f") -> str:
    """Print a value with its interval, a hyphen where there is none; `form` "g": `digits` are significant ones.

    Examples
    --------
    >>> format_estimate({"value": 0.71234, "ci_low": 0.65, "ci_high": 0.78})
    '0.712 (0.650 to 0.780)'
    >>> format_estimate({"value": 12345.6, "ci_low": 11000.0, "ci_high": 13000.0}, form="g")
    '1.23e+04 (1.1e+04 to 1.3e+04)'
    >>> format_estimate(None)
    '-'
    """
    if entry is None or entry["value"] is None:
        return "-"
    if entry.get("ci_low") is None:
        return f"{entry['value']:.{digits}{form}}"
    value, low, high = (f"{entry[key]:.{digits}{form}}" for key in ("value", "ci_low", "ci_high"))
    return f"{value} ({low} to {high})"


def format_difference(entry: Mapping[str, Any] | None, form: str = "f") -> str:
    """Print a difference with its sign and interval, a hyphen where there is none."""
    if entry is None:
        return "-"
    value, low, high = (f"{entry[key]:+.3{form}}" for key in ("difference", "ci_low", "ci_high"))
    return f"{value} ({low} to {high})"


def format_p(value: float | None) -> str:
    """Print a p-value, a hyphen where there is none."""
    if value is None:
        return "-"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def p_equals(value: float) -> str:
    """Print a p-value inside a sentence: ``p = 0.012``, ``p < 0.001``."""
    return f"p {format_p(value)}" if value < 0.001 else f"p = {format_p(value)}"
