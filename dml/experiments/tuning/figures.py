"""Figures of a study: Optuna's own, written as SVG with no date and no random ids."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.trial import FrozenTrial, TrialState

from dml.core.files import atomic


def write_figures(folder: Path, study: optuna.Study, metric: str, with_importances: bool) -> None:
    """Draw history and slices of the first objective; with several, the Pareto front; importances if there are any."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from optuna.visualization import matplotlib as plots

    multiple = len(study.directions) > 1
    target: Mapping[str, Any] = {"target": _first_objective if multiple else None, "target_name": metric}
    with warnings.catch_warnings(), rc_context({"svg.hashsalt": "dml", "svg.fonttype": "path"}):
        warnings.simplefilter("ignore", ExperimentalWarning)  # as all of Optuna's figures are
        warnings.filterwarnings("ignore", "PedAnovaImportanceEvaluator computes", UserWarning)
        drawn = {
            "history": plots.plot_optimization_history(study, **target),
            "slices": plots.plot_slice(study, **target),
        }
        if multiple:
            drawn["front"] = plots.plot_pareto_front(study, target_names=[metric, "GFLOP a patient"])
        if with_importances:
            drawn["importances"] = plots.plot_param_importances(study, **target)
        for name, axes in drawn.items():
            figure = np.ravel(np.asarray(axes))[0].figure
            assert isinstance(figure, Figure)
            with atomic(folder / f"{name}.svg") as temporary:
                figure.savefig(temporary, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None})
            figure.clear()


def _varied(study: optuna.Study) -> set[str]:
    """Names of the parameters that differ between complete trials."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    names = {name for trial in complete for name in trial.params}
    return {name for name in names if len({str(trial.params.get(name)) for trial in complete}) > 1}


def _first_objective(trial: FrozenTrial) -> float:
    return float(trial.values[0])
