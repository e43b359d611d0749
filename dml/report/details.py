"""How the numbers of a report came about, and what they cannot say."""

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
from dml.evaluation.metrics.calibration import d_calibration, survival_at_own_days
from dml.evaluation.metrics.concordance import count_pairs
from dml.evaluation.metrics.kaplan_meier import log_rank
from dml.evaluation.results import ModelResult, Results, risk_groups
from dml.evaluation.scoring import Omission
from dml.models.registry import is_baseline
from dml.report.context import About
from dml.report.figures.calibration import counted

FEW_EVENTS = 100
"""Below it an external statistician will not believe calibration (Collins et al., Statistics in Medicine 2016)."""


def describe(
    results: Results,
    horizons: Horizons | None,
    omissions: Sequence[Omission],
    patients: pd.DataFrame,
    settings: config.Evaluation,
) -> dict[str, Any]:
    """Content of details.json: counts, horizons, what was left out and why, and tables that are not one number."""
    content: dict[str, Any] = {
        "task": results.task,
        "kind": results.kind,
        "resamples": settings.resamples,
        "confidence": settings.confidence,
        "patients": {name: len(model.rows) for name, model in results.models.items()},
        "test_patients_per_fold": results.patients["fold"].value_counts().sort_index().tolist(),
        "left_out": [asdict(omission) for omission in omissions],
    }
    if horizons is None:
        tables = {name: counted(model.rows, results.classes).tolist() for name, model in results.models.items()}
        shares = results.patients["label"].value_counts()
        labels = {name: int(shares.get(name, 0)) for name in results.classes}
        return content | {"classes": list(results.classes), "labels": labels, "confusion": tables}
    adjust = settings.adjust_for
    return content | {
        "deaths": int(results.patients["event"].sum()),
        "years": list(horizons.years),
        "at_horizons": _support(results.patients, horizons),
        "years_left_out": {f"{year:g}": reason for year, reason in horizons.left_out.items()},
        "tau_days": horizons.tau,
        "calibration_year": horizons.primary,
        "survival": {name: _of_model(model, horizons, patients, adjust) for name, model in results.models.items()},
    }


def limitations(results: Results, omissions: Sequence[Omission], horizons: Horizons | None, about: About) -> list[str]:
    """Say what a reader must know before believing the numbers, from the data themselves."""
    tested = results.patients
    internal = (
        "Internal validation: every test patient comes from the same cohort as the training patients. Expect lower "
        "numbers elsewhere."
    )
    found = [
        *([] if about.external else [internal]),
        "Intervals say how the numbers would move with other test patients, the trained models being what they are; "
        "they do not contain the spread between trainings.",
    ]
    if about.external:
        found.append("Recalibrated rows used outcomes of this cohort: they say what a local refit would give.")
    elif about.flow is not None and about.flow.unpaired_tested:
        found.append(
            f"{about.flow.unpaired_tested} test patients have no transcriptome: the teacher is judged on them without, "
            "and models that need one are judged on fewer patients."
        )
    else:
        found.append("Test patients have both slide and transcriptome; those who lack one may differ.")
    shared = int((tested.groupby("site")["fold"].nunique() > 1).sum())
    if shared:
        found.append(
            f"{shared} of {tested['site'].nunique()} sites have patients in more than one test fold, so a model can "
            "profit from how a site stains and scans."
        )
    if horizons is not None:
        deaths = int(tested["event"].sum())
        if deaths < FEW_EVENTS:
            found.append(f"Only {deaths} deaths among the test patients; calibration is uncertain below {FEW_EVENTS}.")
        found += [f"Nothing is said at {year:g} years: {reason}." for year, reason in horizons.left_out.items()]
        found.append("Censoring is taken to be independent of the prognosis.")
    if omissions:
        count = "One value" if len(omissions) == 1 else f"{len(omissions)} values"
        found.append(f"Not computable and left out: {count.lower()}; details.json says which.")
    return [*found, "Research use only: nothing here supports a decision about a patient."]


def _support(tested: pd.DataFrame, horizons: Horizons) -> list[dict[str, float]]:
    """How many test patients had died by each horizon, were followed past it, and had left before."""
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


def _of_model(model: ModelResult, horizons: Horizons, patients: pd.DataFrame, adjust: Sequence[str]) -> dict[str, Any]:
    """Pair counts, risk groups, D-calibration and hazard ratios of one model."""
    rows = model.rows
    days, event = rows["days"].to_numpy(float), rows["event"].to_numpy(bool)
    counts = count_pairs(days, event, rows["risk"].to_numpy(float), rows["fold"].to_numpy(int))
    content: dict[str, Any] = {"pairs": asdict(counts)}
    group = risk_groups(model)
    if group is not None and group.nunique() == 2:
        statistic, p = log_rank(days, event, group.to_numpy())
        content["risk_groups"] = {"high": int(group.sum()), "low": int((1 - group).sum())}
        if np.isfinite(statistic):
            content["log_rank"] = {"statistic": round(statistic, N_DECIMALS), "p": float(f"{p:.3g}")}
    if horizons.years:
        content["d_calibration"] = _d_calibration(rows, days, event, horizons)
    hazard = fit_hazard_ratios(model, patients, adjust) if not is_baseline(model.name) else None
    return content if hazard is None else content | {"hazard": _rounded(asdict(hazard))}


def _d_calibration(rows: pd.DataFrame, days: np.ndarray, event: np.ndarray, horizons: Horizons) -> dict[str, Any]:
    """Test up to the last horizon; later deaths count as censored there."""
    last = horizons.days[-1]
    survival = rows[[survival_column(year) for year in horizons.years]].to_numpy(float)
    own = survival_at_own_days(np.minimum(days, last), survival, horizons.days)
    result = d_calibration(days, event & (days <= last), own)
    return {"counts": [round(c, 3) for c in result.counts.tolist()], "p": round(result.p, N_DECIMALS)}


def _rounded(content: Any) -> Any:
    if isinstance(content, Mapping):
        return {key: _rounded(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_rounded(value) for value in content]
    return float(f"{content:.6g}") if isinstance(content, float) else content
