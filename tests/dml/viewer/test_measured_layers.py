"""Measured expression on tiles: weighted means of the spots, nothing where there is none, served as a layer."""

import numpy as np
import pandas as pd
import pytest
from starlette.testclient import TestClient

from dml.viewer.app import Viewer
from dml.viewer.measured_layers import SPOTS, MeasuredSpots
from tests.dml.viewer.conftest import PAINTED, slide_of, wait_for_map

NAMES = ("signature.tumor genes of the model", "gene.EPCAM")


def measured(centres: list[list[float]], values: list[float], diameter: float = 40.0) -> MeasuredSpots:
    return MeasuredSpots(np.array(centres), diameter, pd.DataFrame(dict.fromkeys(NAMES, values)))


def test_a_tile_has_the_mean_of_its_spots_and_none_without() -> None:
    spots = measured([[30.0, 30.0], [70.0, 70.0], [100.0, 50.0]], [1.0, 3.0, 9.0])
    tiles = np.array([[50.0, 50.0], [150.0, 50.0], [250.0, 50.0]])
    gene = next(layer for layer in spots.layers() if layer.branch == "gene.EPCAM")
    values, low, high = spots.on_tiles(gene, tiles, 100.0)
    assert values[:2].tolist() == pytest.approx([(1 + 3 + 0.5 * 9) / 2.5, 9.0])
    assert np.isnan(values[2])
    assert low < high
    share, _, _ = spots.on_tiles(spots.layers()[0], tiles, 100.0)
    assert share[0] == pytest.approx(2.5 * np.pi * 20**2 / 100**2)


def test_a_spot_that_measured_nothing_counts_nothing() -> None:
    spots = measured([[30.0, 30.0], [70.0, 70.0]], [np.nan, 3.0])
    values, _, _ = spots.on_tiles(spots.layers()[1], np.array([[50.0, 50.0]]), 100.0)
    assert values.tolist() == [3.0]


def test_layers_have_names_for_people_and_words_for_addresses() -> None:
    layers = measured([[0.0, 0.0]], [1.0]).layers()
    assert [layer.id for layer in layers] == [
        SPOTS,
        "measured-signature-tumor-genes-of-the-model",
        "measured-gene-EPCAM",
    ]
    assert layers[1].label == "Measured tumor genes of the model"


def test_the_viewer_serves_them_for_a_slide_with_spots(client: TestClient, viewer: Viewer) -> None:
    entry = slide_of(viewer, PAINTED)
    wait_for_map(viewer, PAINTED)
    address = f"/api/slides/{entry.key}"
    before = {layer["id"] for layer in client.get(f"{address}/map").json()["layers"]}
    assert not any(name.startswith("measured") for name in before)
    viewer._measured[entry.key] = measured([[128.0, 128.0]], [2.5], 60.0)
    try:
        layers = client.get(f"{address}/map").json()["layers"]
        assert {layer["quantity"] for layer in layers} >= {"measured", "contribution"}
        content = client.get(f"{address}/layers/measured-gene-EPCAM/0").json()
        assert {value for value in content["values"] if value is not None} == {2.5}
        assert None in content["values"]
    finally:
        del viewer._measured[entry.key]
