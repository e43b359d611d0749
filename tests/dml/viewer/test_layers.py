"""Layers: sums, scales and colours against matplotlib."""

from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import Normalize, to_hex

from dml.inference.maps.slide_map import TOTAL, SlideMap
from dml.viewer.layers import SCALES, colour_table, layer_range, layer_values, list_layers
from dml.viewer.map_view import prediction_rows, prediction_text


@pytest.fixture
def slide() -> SlideMap:
    rng = np.random.default_rng(0)
    parts = []
    tumor, tme = rng.normal(size=(2, 50))
    for branch, values in {"tumor": tumor, "tme": tme, "linear": 0 * tumor, TOTAL: tumor + tme}.items():
        attention = rng.dirichlet(np.ones(50))
        common = {"mpp": 0.5, "tile_um": 128.0, "x_um": 1.0, "y_um": 1.0, "deviation": np.abs(values)}
        parts.append(pd.DataFrame({"branch": branch, **common, "attention": attention, "contribution": values}))
    return SlideMap("s", "p", "student", "survival", Path("s"), None, "risk", pd.concat(parts), "survival")


def values_of(slide: SlideMap) -> dict[str, np.ndarray]:
    return {layer.id: layer_values(slide, layer, 0.5) for layer in list_layers(slide)}


def test_the_layers_are_sum_branches_difference_attention_and_deviation(slide: SlideMap) -> None:
    values = values_of(slide)
    assert list(values) == [
        *("contribution-total", "contribution-tumor", "contribution-tme", "contribution-linear"),
        *("difference-tumor-tme", "attention-total", "attention-tumor", "attention-tme"),
        *("deviation-total", "deviation-tumor", "deviation-tme"),
    ]
    np.testing.assert_allclose(values["contribution-total"], values["contribution-tumor"] + values["contribution-tme"])
    np.testing.assert_allclose(
        values["difference-tumor-tme"], values["contribution-tumor"] - values["contribution-tme"]
    )
    assert values["attention-tumor"].mean() == pytest.approx(1)


def test_contributions_share_a_symmetric_scale_and_the_rest_begins_at_zero(slide: SlideMap) -> None:
    values = values_of(slide)
    ranges = {layer.id: layer_range(slide, layer, 0.5) for layer in list_layers(slide)}
    signed = [name for name in values if name.startswith(("contribution", "difference"))]
    assert len({ranges[name] for name in signed}) == 1
    low, high = ranges[signed[0]]
    assert low == -high
    assert high == max(np.quantile(np.abs(values[name]), 0.99) for name in signed)
    assert all(ranges[name][0] == 0 for name in set(values) - set(signed))


@pytest.mark.parametrize("scale", sorted(set(SCALES.values())))
def test_colours_are_those_of_matplotlib(scale: str) -> None:
    norm = Normalize(-2.0, 2.0)
    for value in np.linspace(-1.99, 1.99, 57):
        index = int(np.clip(np.floor((value + 2) / 4 * 256), 0, 255))  # as static/overlay.js
        assert colour_table(scale)[index] == to_hex(mpl.colormaps[scale](norm(value)))


def lightness(colour: str) -> float:
    rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return float(np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("scale", ["viridis", "cividis"])
def test_sequential_scales_grow_lighter(scale: str) -> None:
    assert (np.diff([lightness(colour) for colour in colour_table(scale)]) > -1e-3).all()


def test_a_number_is_said_with_its_interval_and_contributions_are_in_its_unit(slide: SlideMap) -> None:
    prediction = {"value": 0.5, "value_lower": 0.25, "value_upper": 0.75}
    assert prediction_text(prediction, "regression") == ("0.5 (0.25 to 0.75)", 0.5)
    names = [row["name"] for row in prediction_rows(prediction, "regression", folds=1)]
    assert names == ["prediction", "lower end of the interval", "upper end"]
    assert replace(slide, kind="regression", task="tils").unit == "tils"
    assert replace(slide, kind="classification").unit == "logit"
