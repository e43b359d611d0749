"""Measured expression on tiles: weighted means of the spots, nothing where there is none, served as a layer."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from starlette.testclient import TestClient

from dml.core.types import GeneGroups
from dml.viewer.app import Viewer
from dml.viewer.measured_layers import SPOTS, MeasuredSpots, read_measured_spots
from tests.dml.viewer.conftest import PAINTED, slide_of, wait_for_map
from tests.painted_sections import DIAMETER_UM, SLIDE_MPP, SPACING_UM, write_cohort

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


def test_spots_of_a_spatial_cohort_are_read_by_section(tmp_path: Path) -> None:
    store = write_cohort(tmp_path)
    groups = GeneGroups(("EPCAM", "KRT8", "KRT18"), ("COL1A1", "DCN", "CD3E"))
    slide = str(store.slides()["slide_id"].iloc[0])
    spots = read_measured_spots(store, slide, SLIDE_MPP, groups)
    assert spots is not None
    assert {"signature.tumor genes of the model", "gene.EPCAM"} <= set(spots.values)
    assert spots.diameter_um == DIAMETER_UM
    nearest = np.linalg.norm(spots.centres_um[1:] - spots.centres_um[0], axis=1).min()
    assert nearest == pytest.approx(SPACING_UM, rel=0.02)
    assert read_measured_spots(store, "no such section", SLIDE_MPP, groups) is None


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
