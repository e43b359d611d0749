"""Report of a study: trials, importances of the tuned values, the objective along each of them. No test patient."""

import math
import warnings
from pathlib import Path
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from dml.config.params import Params
from dml.core.files import atomic, write_json
from dml.experiments.tuning.figures import write_figures
from dml.experiments.tuning.studies import best_trial, identity_of

MIN_TRIALS_FOR_IMPORTANCES = 4
Row = dict[str, Any]


def write_report(study: optuna.Study, params: Params, root: Path = Path("reports")) -> Path:
    """Write study.json, study.md and figures to ``reports/<cohort>/<task>/tuning/<study>``; returns that folder."""
    content = summarize(study)
    folder = root / params.cohort / str(content["task"]) / "tuning" / study.study_name
    write_json(folder / "study.json", content)
    with atomic(folder / "study.md") as temporary:
        temporary.write_text(_page(content))
    if len(_complete(study)) > 1:
        write_figures(folder, study, content["objective"], bool(content["importances"]))
    return folder


def summarize(study: optuna.Study) -> Row:
    """Everything about a study as JSON-able data."""
    identity, trials, best = identity_of(study), [_row(t) for t in study.get_trials(deepcopy=False)], best_trial(study)
    pareto = study.best_trials if best is not None and len(study.directions) > 1 else []
    return {
        "study": study.study_name,
        **{key: identity[key] for key in ("cohort", "task", "kind", "objective", "folds")},
        "cost": identity.get("cost", "none"),
        "direction": study.directions[0].name.lower(),
        "front": [trial.number for trial in sorted(pareto, key=lambda trial: trial.values)],
        "best": next((row for row in trials if best is not None and row["trial"] == best.number), None),
        "reference": next((row for row in trials if row["origin"] and row["state"] == "complete"), None),
        "importances": importances(study),
        "trials": trials,
    }


def importances(study: optuna.Study) -> dict[str, float]:
    """Share of the variance that each value explains, largest first; empty while there are too few trials."""
    complete = _complete(study)
    if len(complete) < MIN_TRIALS_FOR_IMPORTANCES or len({trial.values[0] for trial in complete}) < 2:
        return {}
    sign = -1.0 if study.directions[0] == StudyDirection.MAXIMIZE else 1.0
    quality = (lambda trial: sign * float(trial.values[0])) if len(study.directions) > 1 else None  # less is better
    with warnings.catch_warnings():  # that low targets count as good ones, which those of `quality` are
        warnings.filterwarnings("ignore", message="PedAnovaImportanceEvaluator computes", category=UserWarning)
        shares = optuna.importance.get_param_importances(study, target=quality)
    return {name: round(float(share), 6) for name, share in shares.items() if math.isfinite(share)}


def rank_trials(content: Row) -> list[Row]:
    """Complete trials, best first."""
    rows = [row for row in content["trials"] if row["state"] == "complete"]
    return sorted(rows, key=lambda row: row["value"], reverse=content["direction"] == "maximize")


def compare_best(content: Row) -> list[Row]:
    """One row per tuned value: that of params.yaml, and that of the best trial; on inner validation."""
    best, reference = content["best"], content["reference"] or {"value": None, "values": {}}
    if best is None:
        return []
    rows = [{"": f"{content['objective']} (validation)", "params.yaml": reference["value"], "best": best["value"]}]
    for name in sorted({*reference["values"], *best["values"]}):
        cells = (_format_value(trial["values"].get(name)) for trial in (reference, best))
        rows.append({"": name, **dict(zip(("params.yaml", "best"), cells, strict=True))})
    return rows


def _row(trial: FrozenTrial) -> Row:
    attributes = trial.user_attrs
    value, gflops, *_ = [*(v if math.isfinite(v) else None for v in trial.values or ()), None, None]
    return {
        "trial": trial.number,
        "state": trial.state.name.lower(),
        "value": value,
        "gflops": gflops,
        "folds": {key.removeprefix("fold_"): v for key, v in attributes.items() if key.startswith("fold_")},
        "values": attributes.get("values", trial.params),
        "seconds": round(trial.duration.total_seconds(), 3) if trial.duration else None,
        **{key: attributes.get(key) for key in ("origin", "retry_of", "infeasible")},
    }


def _complete(study: optuna.Study) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def _page(content: Row) -> str:
    states = [row["state"] for row in content["trials"]]
    counts = ", ".join(f"{states.count(state)} {state}" for state in sorted(set(states)))
    others = [row for row in content["trials"] if row["state"] != "complete"]
    lines = [
        f"# Study {content['study']}",
        "",
        f"{content['cohort']}, {content['task']}, {content['kind']}: {content['objective']} of the inner validation, "
        f"mean over folds {content['folds']}, {content['direction']}d. Trials: {counts}. No test patient was used; the "
        "best value is the best of many on the same validation patients, so expect less on others.",
        "",
        *_best_lines(content),
    ]
    if content["importances"]:
        lines += ["## Importances", "", "| parameter | share |", "|---|---|"]
        lines += [f"| {name} | {share:.3f} |" for name, share in content["importances"].items()] + [""]
    return "\n".join([*lines, "## Trials, best first", "", *_table([*rank_trials(content), *others])]) + "\n"


def _best_lines(content: Row) -> list[str]:
    best, reference = content["best"], content["reference"]
    if best is None:
        return []
    lines = [f"Best: trial {best['trial']}, {best['value']:.4f}. To use it: `dml tune apply {content['study']}`."]
    if reference is not None:
        lines.append(f"params.yaml before: trial {reference['trial']}, {reference['value']:.4f}.")
    if content["front"]:
        numbers = ", ".join(map(str, content["front"]))
        lines.append(f"No trial is both better and cheaper than {numbers} (`dml tune apply ... --trial <number>`).")
    return [*lines, ""]


def _table(rows: list[Row]) -> list[str]:
    names = sorted({name for row in rows for name in row["values"]})
    columns = ["value", "gflops"] if any(row["gflops"] is not None for row in rows) else ["value"]
    head = ["trial", "state", *columns, *names]
    body = [
        [str(row["trial"]), row["state"], *map(_format_value, [*map(row.get, columns), *map(row["values"].get, names)])]
        for row in rows
    ]
    return ["| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *body)]


def _format_value(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
