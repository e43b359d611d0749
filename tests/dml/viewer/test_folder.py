"""`dml view --slides FOLDER` with a registered model: the slide is tiled and encoded when it is first opened."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from starlette.testclient import TestClient

from dml.config.params import Params
from dml.registry import registration
from dml.viewer.app import make_app
from dml.viewer.model_source import make_viewer
from tests.tracking_fixtures import client, here, params, template_store, workplace
from tests.trained_models import WIDTH, write_folds

__all__ = ["client", "here", "params", "template_store", "workplace"]


@pytest.mark.parametrize("alias", ["challenger", "1"])
def test_a_folder_is_shown_by_a_registered_model(
    client: MlflowClient, params: Callable[..., Params], alias: str, tmp_path: Path
) -> None:
    write_folds(Path("models/demo/survival/student"), "student", mpps=(0.5,))
    reports = Path("reports/demo/survival")
    reports.mkdir(parents=True)
    (reports / "metrics.json").write_text('{"student": {"c_index": {"value": 0.7}}}')
    registration.register(params(), "survival", "student")
    folder = tmp_path / "slides"
    folder.mkdir()
    np.save(folder / "a.npy", np.random.default_rng(0).normal(size=(30, WIDTH)).astype(np.float16))
    (folder / "notes.txt").write_text("x")
    reference = "demo-survival-student" + ("/1" if alias == "1" else f"@{alias}")
    viewer = make_viewer(reference, None, folder)
    browser = TestClient(make_app(viewer))
    listed = browser.get("/api/slides").json()
    assert (listed["collection"], listed["model"]) == ("slides", reference)
    (slide,) = listed["slides"]
    assert (slide["slide"], slide["has_pixels"], slide["map"]) == ("a", False, "absent")
    viewer.maps.request("a").result(60)
    assert "coordinates" in browser.get(f"/api/slides/{slide['key']}/map").json()["error"]
    assert browser.get("/api/slides").json()["slides"][0]["prediction"] != "", "predicted without a map"
    viewer.close()
