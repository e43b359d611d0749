"""How reports print numbers: values with intervals, differences with signs, p-values."""

from collections.abc import Mapping
from typing import Any


def format_estimate(entry: Mapping[str, Any] | None, digits: int = 3) -> str:
    """Print a value with its interval, a hyphen where there is none.

    Examples
    --------
    >>> format_estimate({"value": 0.71234, "ci_low": 0.65, "ci_high": 0.78})
    '0.712 (0.650 to 0.780)'
    >>> format_estimate(None)
    '-'
    """
    if entry is None or entry["value"] is None:
        return "-"
    if entry.get("ci_low") is None:
        return f"{entry['value']:.{digits}f}"
    return f"{entry['value']:.{digits}f} ({entry['ci_low']:.{digits}f} to {entry['ci_high']:.{digits}f})"


def format_difference(entry: Mapping[str, Any] | None) -> str:
    """Print a difference with its sign and interval, a hyphen where there is none."""
    if entry is None:
        return "-"
    return f"{entry['difference']:+.3f} ({entry['ci_low']:+.3f} to {entry['ci_high']:+.3f})"


def format_p(value: float | None) -> str:
    """Print a p-value, a hyphen where there is none."""
    if value is None:
        return "-"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def p_equals(value: float) -> str:
    """Print a p-value inside a sentence: ``p = 0.012``, ``p < 0.001``."""
    return f"p {format_p(value)}" if value < 0.001 else f"p = {format_p(value)}"
