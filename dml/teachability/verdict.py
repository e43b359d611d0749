"""The first sentence of a teachability report: whether distillation can pay, from the intervals alone."""

from collections.abc import Mapping
from typing import Any, Literal

MARGIN = 0.01
"""Gain of the leading metric below which teaching is called not worth it: docs/teachability.md gives the reason."""
Verdict = Literal["no gap", "gap not shown", "pays", "too little", "undecided"]


def decide(gaps: Mapping[str, Any], margin: float = MARGIN) -> Verdict:
    """Classify one group of test patients by its gap and the teachable part of it.

    Parameters
    ----------
    gaps : mapping
        As `dml.teachability.gap.decompose` returns them.
    margin : float
        Smallest gain that counts.

    Returns
    -------
    str
        ``no gap``: the gap is not positive, or below the margin for certain; ``gap not shown``: its
        interval holds 0; ``pays``: the teachable part is above 0; ``too little``: that is below the margin for certain;
        ``undecided``: its interval has room for both.
    """
    gap, teachable = gaps["gap"], gaps["teachable"]
    if gap["difference"] is None or gap["difference"] <= 0 or _below(gap["ci_high"], margin):
        return "no gap"
    if gap["ci_low"] is None or gap["ci_low"] <= 0:
        return "gap not shown"
    if teachable["ci_low"] is not None and teachable["ci_low"] > 0:
        return "pays"
    return "too little" if _below(teachable["ci_high"], margin) else "undecided"


def sentence(summary: Mapping[str, Any], protocol: str, group: str = "all") -> str:
    """Return one sentence that says whether distillation can pay, with its numbers.

    Raises
    ------
    KeyError
        If the protocol or group was left out.
    """
    gaps, metric = summary["protocols"][protocol]["gaps"][group], summary["metric_label"]
    gap, teachable = _format(gaps["gap"]), _format(gaps["teachable"])
    texts: Mapping[Verdict, str] = {
        "no gap": f"There is nothing to distil: genes do not measurably add to the slide ({metric} {gap})",
        "gap not shown": (
            f"Whether there is anything to distil is not shown: genes add {gap} in {metric}, of which the slide "
            f"predicts {teachable}"
        ),
        "pays": f"Distillation can pay: of the {gap} in {metric} that genes add, the slide predicts {teachable}",
        "too little": (
            f"Distillation can hardly pay: of the {gap} in {metric} that genes add, the slide predicts {teachable}"
        ),
        "undecided": (
            f"Whether distillation can pay is not shown: of the {gap} in {metric} that genes add, the slide predicts "
            f"{teachable}, an interval that holds both nothing and a gain"
        ),
    }
    share, verdict = gaps["teachable_share"]["value"], decide(gaps)
    has_share = share is not None and verdict not in ("no gap", "gap not shown")
    return texts[verdict] + (f"; {100 * share:.0f} % of the gap." if has_share else ".")


def _format(entry: Mapping[str, Any]) -> str:
    if entry["difference"] is None or entry["ci_low"] is None:
        return "-" if entry["difference"] is None else f"{entry['difference']:+.3f}"
    return f"{entry['difference']:+.3f} ({entry['ci_low']:+.3f} to {entry['ci_high']:+.3f})"


def _below(value: float | None, margin: float) -> bool:
    return value is not None and value < margin
