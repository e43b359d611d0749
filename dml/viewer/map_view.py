"""A slide's map as the pages read it: numbers of tiles, layers with their colours, and the strongest tiles."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from dml.core.errors import InputError, listed
from dml.core.tasks import DAYS_PER_YEAR, VALUE_COLUMNS, class_column
from dml.inference.ensemble import Ensemble
from dml.inference.maps.slide_map import SlideMap
from dml.viewer.layers import SCALES, Layer, colour_table, layer_range, layer_values, list_layers
from dml.viewer.map_cache import PatientMaps
from dml.viewer.measured_layers import MeasuredSpots

GALLERY = 8
"""Tiles at each end."""
DIGITS = 6
VALUE_LABELS = dict(zip(VALUE_COLUMNS, ("prediction", "lower end of the interval", "upper end"), strict=True))
"""Names of what is predicted of a number, as the page has them."""


@dataclass(frozen=True, slots=True)
class MapView:
    """The map of one slide for one output, and what it is part of."""

    slide: SlideMap
    maps: PatientMaps
    measured: MeasuredSpots | None = None

    @property
    def mpps(self) -> list[float]:
        """Resolutions, the finest first."""
        return sorted(set(self.slide.tiles["mpp"]))

    def levels(self, level: int) -> tuple[float, float]:
        """Return microns per pixel and side of a tile in microns of a resolution by its number; 0 is the finest.

        Raises
        ------
        InputError
            If there is none of that number.
        """
        if not 0 <= level < len(self.mpps):
            raise InputError("level", f"no resolution {level}", f"There are 0 to {len(self.mpps) - 1}")
        mpp = self.mpps[level]
        return mpp, float(self.slide.layer(self.slide.branches[0], mpp)["tile_um"].iloc[0])

    def describe(self, ensemble: Ensemble) -> dict[str, Any]:
        """Return prediction, outputs, tiles and layers."""
        levels = []
        for number in range(len(self.mpps)):
            mpp, tile_um = self.levels(number)
            tiles = self.slide.layer(self.slide.branches[0], mpp)
            centres = {axis: [round(float(at), 2) for at in tiles[f"{axis}_um"]] for axis in ("x", "y")}
            levels.append({"mpp": mpp, "tile_um": tile_um, **centres})
        output = self.slide.output
        task = ensemble.spec.preprocessor.task
        return {
            "output": output,
            "outputs": list(self.maps.attribution.outputs),
            "unit": self.slide.unit,
            "prediction": prediction_rows(self.maps.prediction, task.kind, self.maps.folds),
            "headline": prediction_text(self.maps.prediction, task.kind)[0],
            "sums": {name: _rounded(value) for name, value in self.maps.subspace_sums(output).items()},
            "folds": self.maps.folds,
            "members": self.maps.members,
            "slides": len(self.maps.slides),
            "levels": levels,
            "layers": [
                {"id": layer.id, "label": layer.label, "quantity": layer.quantity, "unit": layer.unit}
                for layer in self._layers()
            ],
        }

    def layer(self, layer_id: str, level: int) -> dict[str, Any]:
        """Return a value per tile (None where nothing was measured), the ends of the scale, and its colours.

        Raises
        ------
        InputError
            If there is no such layer or level.
        """
        mpp, _ = self.levels(level)
        layer = self._find(layer_id)
        if layer.quantity == "measured" and self.measured is not None:
            rows = self.slide.layer(self.slide.branches[0], mpp)
            each, low, high = self.measured.on_tiles(
                layer, rows[["x_um", "y_um"]].to_numpy(float), self.levels(level)[1]
            )
        else:
            (low, high), each = layer_range(self.slide, layer, mpp), layer_values(self.slide, layer, mpp)
        values = [None if np.isnan(value) else _rounded(value) for value in each]
        scale = SCALES[layer.quantity]
        return {"values": values, "low": low, "high": high, "colours": colour_table(scale), "scale": scale}

    def _layers(self) -> list[Layer]:
        return [*list_layers(self.slide), *(self.measured.layers() if self.measured is not None else ())]

    def _find(self, layer_id: str) -> Layer:
        layers = {layer.id: layer for layer in self._layers()}
        if layer_id not in layers:
            raise InputError("layer", f"no layer {layer_id!r}", f"There are: {listed(list(layers), 20)}")
        return layers[layer_id]

    def tile_row(self, level: int, tile: int, branch: str | None = None) -> "pd.Series[Any]":
        """Return a tile's row of one branch; by default of the first.

        Raises
        ------
        InputError
            If there is no such tile.
        """
        mpp, _ = self.levels(level)
        rows = self.slide.layer(branch or self.slide.branches[0], mpp)
        if not 0 <= tile < len(rows):
            raise InputError("tile", f"no tile {tile}", f"There are 0 to {len(rows) - 1}")
        return rows.iloc[tile]

    def tile(self, level: int, tile: int) -> dict[str, Any]:
        """Return the position of a tile, and contribution, deviation, rank and attention per branch."""
        mpp, tile_um = self.levels(level)
        row = self.tile_row(level, tile)
        branches = []
        for branch in self.slide.branches:
            rows = self.slide.layer(branch, mpp)
            numbers = rows.iloc[tile]
            rank = int((rows["contribution"].to_numpy() > numbers["contribution"]).sum()) + 1
            shares = {"attention": _rounded(numbers["attention"] / max(rows["attention"].mean(), 1e-12)), "rank": rank}
            parts = {name: _rounded(numbers[name]) for name in ("contribution", "deviation")}
            branches.append({"branch": branch, **parts, **shares})
        position = {"x_um": _rounded(row["x_um"]), "y_um": _rounded(row["y_um"]), "tile_um": tile_um, "mpp": mpp}
        count = len(self.slide.layer(self.slide.branches[0], mpp))
        return {"tile": tile, **position, "tiles": count, "branches": branches, "pictures": self.mpps}

    def gallery(self, level: int) -> list[dict[str, Any]]:
        """Return, per branch, the tiles of the largest and of the smallest contributions."""
        mpp, _ = self.levels(level)
        rows = []
        for branch in self.slide.branches:
            values = self.slide.layer(branch, mpp)["contribution"].to_numpy(float)
            order = np.argsort(-values, kind="stable")
            ends = {"top": order[:GALLERY], "bottom": order[::-1][: min(GALLERY, len(order) - GALLERY)]}
            shown = {
                name: [{"tile": int(i), "value": _rounded(values[i])} for i in chosen] for name, chosen in ends.items()
            }
            rows.append({"branch": branch, **shown})
        return rows


def prediction_text(prediction: Mapping[str, Any], kind: str) -> tuple[str, float | None]:
    """Return a prediction for people, and the number it is sorted by."""
    if kind == "survival":
        risk = float(prediction["risk"])
        return f"{prediction['risk_group']} risk ({_signed(risk)} SD)", risk
    if kind == "regression":
        value, lower, upper = (float(prediction[name]) for name in VALUE_COLUMNS)
        return f"{value:.3g} ({lower:.3g} to {upper:.3g})", value
    likeliest = str(prediction["prediction"])
    probability = float(prediction[class_column(likeliest)])
    return f"{likeliest} ({probability:.0%})", probability


def prediction_rows(prediction: Mapping[str, Any], kind: str, folds: int) -> list[dict[str, str]]:
    """Return what a model predicts, a name and a text each; the deviation between folds where there are several."""
    rows = []
    for name, value in prediction.items():
        if isinstance(value, str) or (name == "spread" and folds < 2):
            continue
        if name == "spread":
            label = "deviation between folds"
            text = f"{value:.2f}" + (" SD" if kind == "survival" else "")
        elif kind == "regression":
            label, text = VALUE_LABELS.get(name, name), f"{value:.3g}"
        elif name == "risk":
            label, text = "risk, 0 = cut-off", f"{_signed(value)} SD"
        elif name.startswith("survival_"):
            years = round(int(name.removeprefix("survival_")) / DAYS_PER_YEAR, 1)
            label, text = f"alive at {years:g} year{'' if years == 1 else 's'}", f"{value:.0%}"
        else:
            label, text = name.removeprefix("p_"), f"{value:.1%}"
        rows.append({"name": label, "text": text})
    return rows


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "\N{MINUS SIGN}")


def _rounded(value: Any) -> float:
    return float(f"{float(value):.{DIGITS}g}")
