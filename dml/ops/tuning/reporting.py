"""The report of a study: every trial, which values mattered, and how the objective went along each of them."""

import math
from pathlib import Path
from typing import Any

import optuna
from matplotlib.ticker import NullFormatter
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from dml.config import Params
from dml.evaluation.figures import FAINT, HIGH, INK, LOW, MUTED, drawing
from dml.files import atomic, write_json
from dml.ops.tuning.studies import subject

ENOUGH = 4
"""Complete trials below which importances say nothing."""
PANELS = 3
"""Figures of slices in a row."""


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
        _draw_history(folder / "history.svg", study, complete, str(about["objective"]))
        _draw_slices(folder / "slices.svg", complete, str(about["objective"]))
    if content["importances"]:
        _draw_importances(folder / "importances.svg", content["importances"])
    return folder


def summary(study: optuna.Study) -> dict[str, Any]:
    """Everything about a study as JSON-able data."""
    about = subject(study)
    trials = [_row(trial) for trial in study.get_trials(deepcopy=False)]
    best = study.best_trial.number if _complete(study) else None
    return {
        "study": study.study_name,
        **{key: about[key] for key in ("cohort", "task", "kind", "objective", "folds")},
        "direction": study.direction.name.lower(),
        "best": next((row for row in trials if row["trial"] == best), None),
        "reference": next((row for row in trials if row["origin"] and row["state"] == "complete"), None),
        "importances": importances(study),
        "trials": trials,
    }


def importances(study: optuna.Study) -> dict[str, float]:
    """Share of the spread that each value explains, largest first; empty while there are too few trials."""
    complete = _complete(study)
    if len(complete) < ENOUGH or len({trial.value for trial in complete}) < 2:
        return {}
    found = optuna.importance.get_param_importances(study)
    return {name: round(float(share), 6) for name, share in found.items() if math.isfinite(share)}


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
    finite = trial.value is not None and math.isfinite(trial.value)
    return {
        "trial": trial.number,
        "state": trial.state.name.lower(),
        "value": trial.value if finite else None,
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
    return [*lines, ""]


def _table(rows: list[dict[str, Any]]) -> list[str]:
    names = sorted({name for row in rows for name in row["values"]})
    head = ["trial", "state", "value", *names]
    cells = [
        [row["trial"], row["state"], _shown(row["value"]), *(_shown(row["values"].get(name)) for name in names)]
        for row in rows
    ]
    return ["| " + " | ".join(map(str, line)) + " |" for line in (head, ["---"] * len(head), *cells)]


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _draw_history(path: Path, study: optuna.Study, complete: list[FrozenTrial], label: str) -> None:
    pruned = [t for t in study.get_trials(deepcopy=False, states=(TrialState.PRUNED,)) if t.value is not None]
    better = min if study.direction == StudyDirection.MINIMIZE else max
    values = [float(t.values[0]) for t in complete]
    with drawing(path, 6.0, 3.2) as figure:
        axes = figure.subplots()
        ended = [t.value or 0.0 for t in pruned]
        axes.scatter([t.number for t in pruned], ended, s=14, color=FAINT, label="pruned")
        axes.scatter([t.number for t in complete], values, s=18, color=LOW, label="complete")
        best = [better(values[: i + 1]) for i in range(len(values))]
        axes.step([t.number for t in complete], best, where="post", color=HIGH, label="best so far")
        axes.set(xlabel="trial", ylabel=f"{label}, mean over folds", title="History")
        axes.legend()


def _draw_importances(path: Path, shares: dict[str, float]) -> None:
    names = list(shares)[::-1]
    with drawing(path, 6.0, 0.8 + 0.28 * len(names)) as figure:
        axes = figure.subplots()
        axes.barh(names, [shares[name] for name in names], color=LOW)
        axes.set(xlabel="share of the spread explained (PED-ANOVA)", title="Importances")


def _draw_slices(path: Path, complete: list[FrozenTrial], label: str) -> None:
    names = sorted({name for trial in complete for name in trial.params})
    rows = math.ceil(len(names) / PANELS)
    with drawing(path, 2.6 * PANELS, 2.2 * rows) as figure:
        panels = figure.subplots(rows, PANELS, sharey=True, squeeze=False).ravel()
        for axes, name in zip(panels, names, strict=False):
            having = [trial for trial in complete if name in trial.params]
            domain: Any = having[0].distributions[name]
            found = [trial.params[name] for trial in having]
            if isinstance(domain, optuna.distributions.CategoricalDistribution):
                axes.scatter([domain.choices.index(v) for v in found], [t.value for t in having], s=14, color=INK)
                axes.set_xticks(range(len(domain.choices)), map(str, domain.choices))
            else:
                axes.scatter(found, [t.value for t in having], s=14, color=INK)
                axes.set_xscale("log" if domain.log else "linear")
                axes.set_xlim(domain.low, domain.high)
                axes.xaxis.set_minor_formatter(NullFormatter())
            axes.set_title(name, color=MUTED)
        for axes in panels[len(names) :]:
            axes.set_axis_off()
        figure.supylabel(label)
