"""What was seen of a version, as one page that works offline and as JSON; and the tag of the alarm."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from dml.core.files import atomic, write_json
from dml.core.templates import make_environment
from dml.monitoring.monitor import MonitorResult
from dml.monitoring.performance import Check
from dml.registry.versions import RegisteredVersion
from dml.tracking import store

ALARM, CHECKED = "monitor.alarm", "monitor.checked"
"""Tags of a version: why there was an alarm, which stays; and when it was last inspected."""
_WIDTH, _HEIGHT = 640.0, 120.0


def write_results(result: MonitorResult, out: Path) -> None:
    """Write monitor.json and monitor.html."""
    write_json(out / "monitor.json", to_json(result))
    template = make_environment("dml.monitoring", {"number": _number, "e_value": _e_value}).get_template("monitor.html")
    content = {"r": result, "chart": chart(result), "alarms": result.alarms, "weeks": _weeks(result)}
    with atomic(out / "monitor.html") as temporary:
        temporary.write_text(template.render(**content), encoding="utf-8")


def to_json(result: MonitorResult) -> dict[str, Any]:
    """Return all that is on the page."""
    quantities = [
        {
            "group": each.group,
            "quantity": each.label,
            "reference_median": _finite(each.reference_median),
            "recent_median": _finite(each.recent_median),
            "log_e": [_finite(value) for value in each.log_capital],
        }
        for each in result.drift.quantities
    ]
    return {
        "model": result.version.name,
        "version": result.version.version,
        "level": result.settings.level,
        "limit_log_e": result.limit,
        "patients": result.patients,
        "outcomes": result.outcomes,
        "alarms": result.alarms,
        "notes": list(result.notes),
        "weeks": _weeks(result),
        "quantities": quantities,
        "performance": {"log_e": _finite(result.evidence), "checks": [check_row(check) for check in result.checks]},
    }


def check_row(check: Check) -> dict[str, Any]:
    """Return a check as a row of a table."""
    return {
        "property": check.label,
        "patients": check.subgroup or "all",
        "number": check.number,
        "estimate": _finite(check.estimate),
        "low": _finite(check.low),
        "high": _finite(check.high),
        "required": check.required,
        "log_e": _finite(check.log_e),
    }


def tag_version(version: RegisteredVersion, alarms: Sequence[str]) -> None:
    """Note the look in the registry, and an alarm, which no later look takes away: that is a person's act."""
    client = store.connect(must_exist=True)
    client.set_model_version_tag(version.name, version.version, CHECKED, f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}")
    if alarms:
        client.set_model_version_tag(version.name, version.version, ALARM, ". ".join(alarms)[:4000])


def chart(result: MonitorResult) -> dict[str, Any]:
    """Return the line of the mean evidence of drift over the weeks, in the units of an SVG of 640 x 120."""
    values = result.drift.log_capital / np.log(10)
    limit = result.limit / np.log(10)
    low, high = min(-1.0, float(values.min(initial=0.0))), max(limit * 1.2, float(values.max(initial=0.0)))
    x = np.linspace(0, _WIDTH, max(len(values), 2))[: len(values)]
    y = _HEIGHT * (high - values) / (high - low)
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    return {"points": points, "limit": round(_HEIGHT * (high - limit) / (high - low), 1), "width": int(_WIDTH)}


def _weeks(result: MonitorResult) -> list[dict[str, Any]]:
    drift = result.drift
    rows = zip(drift.weeks, drift.patients, drift.log_capital, strict=True)
    return [{"week": week, "patients": number, "log_e": _finite(value)} for week, number, value in rows]


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _number(value: float | None) -> str:
    return "-" if value is None or not np.isfinite(value) else f"{value:.3g}"


def _e_value(log_e: float | None) -> str:
    """Return an e-value as 0.3, 45 or 10^9."""
    if log_e is None:
        return "-"
    return f"10^{log_e / np.log(10):.0f}" if log_e > np.log(1e5) else f"{np.exp(log_e):.2g}"
