"""How numbers are written to JSON: few enough digits to read, none that differ between machines, NaN as null."""

import math

DECIMALS = 6


def rounded(value: float) -> float | None:
    """Round to `DECIMALS`; None for what is not finite, and no negative zero."""
    return round(float(value), DECIMALS) + 0.0 if math.isfinite(value) else None
