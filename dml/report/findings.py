"""What the numbers of teacher and student come to besides comparisons: where they are off, and for whom they fail."""

import re
from collections.abc import Mapping
from typing import Any

from dml.report.contents import OURS, Contents
from dml.report.names import named

CHANCE = 0.5


def findings(c: Contents) -> list[str]:
    """Say of each model where its level is wrong, and in which groups it is not beyond chance."""
    return [*calibration_findings(c), *subgroup_findings(c)]


def calibration_findings(c: Contents) -> list[str]:
    """Name the horizons (or classes) at which the interval of observed to expected leaves one."""
    said = []
    for model in (name for name in OURS if name in c.metrics):
        found = {name: entry for name, entry in c.metrics[model].items() if _is_level(name, c)}
        many = [name for name, entry in found.items() if entry["ci_high"] < 1]
        few = [name for name, entry in found.items() if entry["ci_low"] > 1]
        parts = [f"too {word} {_listed(names, found, c)}" for word, names in (("many", many), ("few", few)) if names]
        if parts:
            what = "deaths" if c.kind == "survival" else "patients"
            said.append(f"The {named(model)} predicts {' and '.join(parts).replace('@', what)} (observed/expected).")
    return said


def subgroup_findings(c: Contents) -> list[str]:
    """Name the groups in which the interval of a model's leading metric contains chance."""
    said = []
    for model in (name for name in OURS if name in c.metrics):
        groups = [group for group in c.details["subgroups"]["groups"] if model in group["models"]]
        weak: dict[str, list[str]] = {}
        for group in groups:
            if group["models"][model]["ci_low"] <= CHANCE:
                weak.setdefault(group["column"], []).append(group["value"])
        if weak:
            listed = "; ".join(f"{column}: {', '.join(values)}" for column, values in weak.items())
            said.append(f"The {named(model)} is not shown to be better than chance in {listed}.")
    return said


def _is_level(metric: str, c: Contents) -> bool:
    return metric.startswith("oe_") and not metric.endswith(tuple(f"_{name}" for name in c.subgroups))


def _listed(names: list[str], found: Mapping[str, Mapping[str, Any]], c: Contents) -> str:
    """Print ``@ at 1 y (0.71), 2 y (0.84)``; of classes ``@ as G2 (0.80)``."""
    ordered = sorted(names, key=_year) if c.kind == "survival" else names
    values = [f"{_place(name, c)} ({found[name]['value']:.2f})" for name in ordered]
    return f"@ {'at' if c.kind == 'survival' else 'as'} {', '.join(values)}"


def _place(metric: str, c: Contents) -> str:
    return f"{_year(metric):g} y" if c.kind == "survival" else metric.removeprefix("oe_")


def _year(metric: str) -> float:
    found = re.fullmatch(r"oe_([\d.]+)y", metric)
    return float(found[1]) if found else 0.0
