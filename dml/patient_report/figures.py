"""Figures of a patient's page as data addresses: maps over the tissue, survival curves, contributions."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from dml.core.tasks import DAYS_PER_YEAR, horizon_columns
from dml.inference.maps.overlay import save_overlay
from dml.inference.maps.slide_map import SlideMap
from dml.report.figures import CLASSES, HIGH, LOW, MUTED, drawing

TUMOR_COLOUR, TME_COLOUR = CLASSES[1], CLASSES[2]


def map_figure(slide: SlideMap, mpp: float) -> str:
    """Return tissue, tumor map and microenvironment map side by side.

    Raises
    ------
    InputError
        If the slide cannot be opened.
    """
    with TemporaryDirectory() as folder:
        path = Path(folder) / "maps.png"
        save_overlay(slide, mpp, path, subspaces_only=True)
        return _address(path, "image/png")


def survival_figure(
    years: Sequence[float], folds: np.ndarray, mean: np.ndarray, outcomes: Mapping[str, Any] | None
) -> str:
    """Return the model's curve with the range of its folds, and the neighbours' Kaplan-Meier curve with its interval.

    Parameters
    ----------
    years : sequence of float
        Horizons.
    folds, mean : array
        Survival at the horizons, of each fold (f t), and of all (t).
    outcomes : mapping, optional
        Of `dml.case_bank.outcomes.describe_outcomes`.
    """
    with TemporaryDirectory() as folder:
        path = Path(folder) / "survival.svg"
        with drawing(path, 4.6, 2.6) as figure:
            axes = figure.subplots()
            at = [0.0, *(day / DAYS_PER_YEAR for day in horizon_columns(years).values())]
            low, high = (np.concatenate([[1.0], ends]) for ends in (folds.min(axis=0), folds.max(axis=0)))
            axes.fill_between(at, low, high, color=LOW, alpha=0.2, linewidth=0)
            axes.plot(
                at,
                [1.0, *mean],
                "o-",
                color=LOW,
                markersize=3,
                label="model (band: its folds)" if len(folds) > 1 else "model",
            )
            curve = (outcomes or {}).get("curve")
            if curve:
                n = (outcomes or {})["n"]
                days = [0.0, *(day / DAYS_PER_YEAR for day in curve["days"])]
                axes.step(
                    days, [1.0, *curve["survival"]], where="post", color=HIGH, label=f"{n} similar patients (95 %)"
                )
                axes.fill_between(
                    days,
                    [1.0, *curve["ci_low"]],
                    [1.0, *curve["ci_high"]],
                    step="post",
                    color=HIGH,
                    alpha=0.15,
                    linewidth=0,
                )
            axes.set(xlim=(0, max(at)), ylim=(0, 1.02), xlabel="years", ylabel="share alive")
            axes.legend(loc="lower left", fontsize=8)
        return _address(path, "image/svg+xml")


def bar_figure(rows: Sequence[tuple[str, float, float, str]], unit: str, height: float) -> str:
    """Return horizontal bars: name, contribution, deviation over members, and whether of tumor, tme or neither."""
    colours = {"tumor": TUMOR_COLOUR, "tme": TME_COLOUR}
    with TemporaryDirectory() as folder:
        path = Path(folder) / "bars.svg"
        with drawing(path, 3.5, height) as figure:
            axes = figure.subplots()
            names = [name for name, *_ in rows]
            position = np.arange(len(rows))[::-1]
            values, deviations = [row[1] for row in rows], [row[2] for row in rows]
            axes.barh(position, values, xerr=deviations, color=[colours.get(row[3], MUTED) for row in rows],
                      height=0.65, error_kw={"linewidth": 0.8, "ecolor": MUTED})  # fmt: skip
            axes.axvline(0, color=MUTED, linewidth=0.8)
            axes.set_yticks(position, names)
            figure.supxlabel(f"contribution ({unit})", fontsize=9)
        return _address(path, "image/svg+xml")


def jpeg_address(picture: bytes | None) -> str:
    """Return a small picture; empty without one."""
    return "" if not picture else f"data:image/jpeg;base64,{base64.b64encode(picture).decode()}"


def _address(path: Path, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"
