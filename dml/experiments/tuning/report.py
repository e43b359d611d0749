"""The report of a study: every trial, which values mattered, and how the objective went along each of them."""

import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from dml.config.params import Params
from dml.core.files import atomic, write_json
from dml.experiments.tuning import figures as drawing
from dml.experiments.tuning.studies import best_of, front, subject

ENOUGH = 4
"""Complete trials below which importances say nothing."""


def write_report(study: optuna.Study, params: Params, root: Path = Path("reports")) -> Path:
    """Write study.json, study.md and figures to ``reports/<cohort>/<task>/tuning/<study>``; returns that folder."""
    about = subject(study)
    folder = root / params.cohort / str(about["task"]) / "tuning" / study.study_name
    content = summary(study)
    write_json(folder / "study.json", content)
    with atomic(folder / "study.md") as temporary:
        temporary.write_text(_page(study.study_name, content))
    complete = _complete(study)
    if complete:
        drawing.history(folder / "history.svg", study, complete, str(about["objective"]))
        drawing.slices(folder / "slices.svg", complete, str(about["objective"]))
    if content["front"]:
        drawing.costs(folder / "front.svg", complete, content["front"], str(about["objective"]))
    if content["importances"]:
        drawing.importances(folder / "importances.svg", content["importances"])
    return folder


def summary(study: optuna.Study) -> dict[str, Any]:
    """Everything about a study as JSON-able data."""
    about = subject(study)
    trials = [_row(trial) for trial in study.get_trials(deepcopy=False)]
    found = best_of(study)
    best = found.number if found else None
    return {
        "study": study.study_name,
        **{key: about[key] for key in ("cohort", "task", "kind", "objective", "folds")},
        "cost": about.get("cost", "none"),
        "direction": study.directions[0].name.lower(),
        "front": [trial.number for trial in front(study)] if len(study.directions) > 1 else [],
        "best": next((row for row in trials if row["trial"] == best), None),
        "reference": next((row for row in trials if row["origin"] and row["state"] == "complete"), None),
        "importances": importances(study),
        "trials": trials,
    }


def importances(study: optuna.Study) -> dict[str, float]:
    """Share of the spread that each value explains, largest first; empty while there are too few trials."""
    complete = _complete(study)
    if len(complete) < ENOUGH or len({trial.values[0] for trial in complete}) < 2:
        return {}
    target = quality(study) if len(study.directions) > 1 else None
    with warnings.catch_warnings():  # that low targets are taken for good ones, which those of `quality` are
        warnings.filterwarnings("ignore", message="PedAnovaImportanceEvaluator computes", category=UserWarning)
        found = optuna.importance.get_param_importances(study, target=target)
    return {name: round(float(share), 6) for name, share in found.items() if math.isfinite(share)}


def quality(study: optuna.Study) -> Callable[[FrozenTrial], float]:
    """Return the first objective as a number of which less is better."""
    sign = -1.0 if study.directions[0] == StudyDirection.MAXIMIZE else 1.0
    return lambda trial: sign * float(trial.values[0])


def ranked(content: dict[str, Any]) -> list[dict[str, Any]]:
    """Complete trials, best first."""
    rows = [row for row in content["trials"] if row["state"] == "complete"]
    return sorted(rows, key=lambda row: row["value"], reverse=content["direction"] == "maximize")


def comparison(content: dict[str, Any]) -> list[dict[str, Any]]:
    """One row per tuned value: what params.yaml had, what the best trial has."""
    best, reference = content["best"], content["reference"]
    if best is None:
        return []
    rows = [{"": content["objective"], "params.yaml": reference and reference["value"], "best": best["value"]}]
    before = reference["values"] if reference else {}
    names = sorted({*before, *best["values"]})
    return rows + [{"": n, "params.yaml": _shown(before.get(n)), "best": _shown(best["values"].get(n))} for n in names]


def _row(trial: FrozenTrial) -> dict[str, Any]:
    attrs = trial.user_attrs
    values = [value if math.isfinite(value) else None for value in trial.values or ()]
    return {
        "trial": trial.number,
        "state": trial.state.name.lower(),
        "value": values[0] if values else None,
        "gflops": values[1] if len(values) > 1 else None,
        "folds": {key.removeprefix("fold_"): value for key, value in attrs.items() if key.startswith("fold_")},
        "values": attrs.get("values", trial.params),
        "seconds": round(trial.duration.total_seconds(), 3) if trial.duration else None,
        "origin": attrs.get("origin"),
        "retry_of": attrs.get("retry_of"),
        "infeasible": attrs.get("infeasible"),
    }


def _complete(study: optuna.Study) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def _page(name: str, content: dict[str, Any]) -> str:
    states = [row["state"] for row in content["trials"]]
    counts = ", ".join(f"{states.count(state)} {state}" for state in sorted(set(states)))
    lines = [
        f"# Study {name}",
        "",
        f"{content['cohort']}, {content['task']}, {content['kind']}: {content['objective']} of the inner validation, "
        f"mean over folds {content['folds']}, {content['direction']}d. Trials: {counts}. No test patient was used; the "
        "best value is the best of many on the same validation patients, so expect less on others.",
        "",
        *_best_lines(content),
        *(["## Importances", "", "| parameter | share |", "|---|---|"] if content["importances"] else []),
        *(f"| {key} | {share:.3f} |" for key, share in content["importances"].items()),
        "",
        "## Trials, best first",
        "",
        *_table(ranked(content) + [row for row in content["trials"] if row["state"] != "complete"]),
    ]
    return "\n".join(lines) + "\n"


def _best_lines(content: dict[str, Any]) -> list[str]:
    best, reference = content["best"], content["reference"]
    if best is None:
        return []
    lines = [f"Best: trial {best['trial']}, {best['value']:.4f}. Take it over: `dml apply {content['study']}`."]
    if reference is not None:
        lines.append(f"params.yaml as it was: trial {reference['trial']}, {reference['value']:.4f}.")
    if content["front"]:
        numbers = ", ".join(map(str, content["front"]))
        lines.append(f"No trial is both better and cheaper than these: {numbers} (`dml apply ... --trial <number>`).")
    return [*lines, ""]


def _table(rows: list[dict[str, Any]]) -> list[str]:
    names = sorted({name for row in rows for name in row["values"]})
    costs = ["gflops"] if any(row["gflops"] is not None for row in rows) else []
    head = ["trial", "state", "value", *costs, *names]
    cells = [
        [
            row["trial"],
            row["state"],
            _shown(row["value"]),
            *(_shown(row[name]) for name in costs),
            *(_shown(row["values"].get(name)) for name in names),
        ]
        for row in rows
    ]
    return ["| " + " | ".join(map(str, line)) + " |" for line in (head, ["---"] * len(head), *cells)]


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
