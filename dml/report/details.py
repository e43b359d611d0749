"""Content of details.json: counts, horizons, omissions, and results that are not one number."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from dml.config import params as config
from dml.core.tasks import survival_column
from dml.evaluation.hazard import fit_hazard_ratios
from dml.evaluation.horizons import Horizons
from dml.evaluation.intervals import N_DECIMALS
from dml.evaluation.metrics.calibration import d_calibration, survival_at_follow_up
from dml.evaluation.metrics.concordance import count_pairs
from dml.evaluation.metrics.kaplan_meier import log_rank
from dml.evaluation.results import ModelResult, Results, assign_risk_groups
from dml.evaluation.scorer import Omission
from dml.models.registry import is_baseline
from dml.report.figures.calibration import confusion_counts


def describe(
    results: Results,
    horizons: Horizons | None,
    omissions: Sequence[Omission],
    patients: pd.DataFrame,
    settings: config.Evaluation,
) -> dict[str, Any]:
    """Return the content of details.json."""
    sites = results.patients.groupby("site")["fold"].nunique()
    content: dict[str, Any] = {
        "task": results.task,
        "kind": results.kind,
        "resamples": settings.resamples,
        "confidence": settings.confidence,
        "patients": {name: len(model.rows) for name, model in results.models.items()},
        "test_patients_per_fold": results.patients["fold"].value_counts().sort_index().tolist(),
        "sites": {"all": len(sites), "in_several_folds": int((sites > 1).sum())},
        "left_out": [asdict(omission) for omission in omissions],
    }
    if results.kind == "regression":
        return content | {"classes": [], "numbers": _describe_numbers(results.patients["target"])}
    if horizons is None:
        tables = {
            name: confusion_counts(model.rows, results.classes).tolist() for name, model in results.models.items()
        }
        shares = results.patients["label"].value_counts()
        labels = {name: int(shares.get(name, 0)) for name in results.classes}
        return content | {"classes": list(results.classes), "labels": labels, "confusion": tables}
    adjust = settings.adjust_for
    return content | {
        "deaths": int(results.patients["event"].sum()),
        "years": list(horizons.years),
        "at_horizons": _status_at_horizons(results.patients, horizons),
        "years_left_out": {f"{year:g}": reason for year, reason in horizons.left_out.items()},
        "tau_days": horizons.tau,
        "calibration_year": horizons.primary,
        "survival": {name: _describe(model, horizons, patients, adjust) for name, model in results.models.items()},
    }


def _describe_numbers(target: pd.Series) -> dict[str, Any]:
    """Return mean, standard deviation and the quartiles with both ends."""
    quantiles = {"min": 0.0, "lower": 0.25, "median": 0.5, "upper": 0.75, "max": 1.0}
    quartiles = {name: float(target.quantile(share)) for name, share in quantiles.items()}
    numbers: dict[str, Any] = _round({"mean": float(target.mean()), "sd": float(target.std()), **quartiles})
    return numbers


def _status_at_horizons(tested: pd.DataFrame, horizons: Horizons) -> list[dict[str, float]]:
    """Count the test patients that died by each horizon, were followed past it, or were censored before."""
    days, event = tested["days"].to_numpy(float), tested["event"].to_numpy(bool)
    return [
        {
            "year": year,
            "died": int((event & (days <= last)).sum()),
            "followed": int((days > last).sum()),
            "left": int((~event & (days <= last)).sum()),
        }
        for year, last in zip(horizons.years, horizons.days, strict=True)
    ]


def _describe(model: ModelResult, horizons: Horizons, patients: pd.DataFrame, adjust: Sequence[str]) -> dict[str, Any]:
    """Pair counts, risk groups, D-calibration and hazard ratios of one model."""
    rows = model.rows
    days, event = rows["days"].to_numpy(float), rows["event"].to_numpy(bool)
    counts = count_pairs(days, event, rows["risk"].to_numpy(float), rows["fold"].to_numpy(int))
    content: dict[str, Any] = {"pairs": asdict(counts)}
    group = assign_risk_groups(model)
    if group is not None and group.nunique() == 2:
        statistic, p = log_rank(days, event, group.to_numpy())
        content["risk_groups"] = {"high": int(group.sum()), "low": int((1 - group).sum())}
        if np.isfinite(statistic):
            content["log_rank"] = {"statistic": round(statistic, N_DECIMALS), "p": float(f"{p:.3g}")}
    if horizons.years:
        content["d_calibration"] = _d_calibration(rows, days, event, horizons)
    hazard = None if is_baseline(model.name) else fit_hazard_ratios(model, patients, adjust)
    return content if hazard is None else content | {"hazard": _round(asdict(hazard))}


def _d_calibration(rows: pd.DataFrame, days: np.ndarray, event: np.ndarray, horizons: Horizons) -> dict[str, Any]:
    """Test up to the last horizon; later deaths count as censored there."""
    last = horizons.days[-1]
    survival = rows[[survival_column(year) for year in horizons.years]].to_numpy(float)
    survival_at_end = survival_at_follow_up(np.minimum(days, last), survival, horizons.days)
    result = d_calibration(days, event & (days <= last), survival_at_end)
    return {"counts": [round(c, 3) for c in result.counts.tolist()], "p": round(result.p, N_DECIMALS)}


def _round(content: Any) -> Any:
    if isinstance(content, Mapping):
        return {key: _round(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_round(value) for value in content]
    return float(f"{content:.6g}") if isinstance(content, float) else content
