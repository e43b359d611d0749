"""What the addresses answer, against the attribution itself; addresses of attackers; nothing is written."""

import hashlib
import os
from io import BytesIO
from pathlib import Path

import httpx2
import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from dml.attribution.attribute import attribute
from dml.data.cohort_store import CohortStore
from dml.inference.ensemble import Ensemble
from dml.inference.maps.slide_map import tile_table
from dml.slides.reader import open_slide
from dml.viewer.app import STATIC, Viewer
from dml.viewer.map_cache import MapCache
from dml.viewer.slide_collection import CohortSlides
from tests.dml.viewer.conftest import (
    HOST,
    OUTSIDE,
    PAINTED,
    UNENCODED,
    WITHOUT_COORDINATES,
    WITHOUT_PIXELS,
    ensemble,
    slide_of,
    wait_for_map,
)

OPENSEADRAGON = "openseadragon.min.js"
PUBLISHED = "14d587cd3ee7c4861f1a41077ce642029364a21029956ba635bd8fb1202cf9ad"
"""SHA-256 of build/openseadragon/openseadragon.min.js in the npm package openseadragon 6.1.1."""


@pytest.fixture
def api(viewer: Viewer) -> str:
    wait_for_map(viewer, PAINTED)
    return f"/api/slides/{slide_of(viewer, PAINTED).key}"


def test_the_list_has_status_and_prediction_once_opened(client: TestClient, api: str, viewer: Viewer) -> None:
    content = client.get("/api/slides").json()
    rows = {row["patient"]: row for row in content["slides"]}
    assert (content["collection"], content["task"], len(rows)) == ("synthetic", "survival", 12)
    assert rows[PAINTED]["map"] == "ready"
    predicted = Ensemble(viewer.ensemble.folds).predict(viewer.collection.read_patient(PAINTED).patient)
    assert rows[PAINTED]["value"] == pytest.approx(predicted["risk"].iloc[0])
    assert rows["P011"]["prediction"] == ""
    assert not any("/" in str(value) for row in rows.values() for value in row.values())


def test_numbers_are_those_of_the_attribution(client: TestClient, api: str, viewer: Viewer) -> None:
    result = attribute(viewer.ensemble.folds, viewer.collection.read_patient(PAINTED).patient)
    table = tile_table(result, 0)
    content = client.get(f"{api}/map").json()
    assert content["outputs"] == ["risk"]
    for number, level in enumerate(content["levels"]):
        rows = table[table["mpp"] == level["mpp"]]
        tumor, total = (rows[rows["branch"] == branch] for branch in ("tumor", "total"))
        np.testing.assert_allclose(level["x"], tumor["x_um"])
        layer = client.get(f"{api}/layers/contribution-tumor/{number}").json()
        np.testing.assert_allclose(layer["values"], tumor["contribution"], rtol=1e-5)
        tile = client.get(f"{api}/tiles/{number}/1").json()
        row = next(row for row in tile["branches"] if row["branch"] == "total")
        assert row["contribution"] == pytest.approx(total["contribution"].iloc[1], rel=1e-5)
        assert row["deviation"] == pytest.approx(total["deviation"].iloc[1], rel=1e-5)
        assert row["rank"] == 1 + (total["contribution"] > total["contribution"].iloc[1]).sum()
    sums = content["sums"]
    assert sum(sums.values()) == pytest.approx(result.output[0] - result.residual[0], rel=1e-4)


def test_the_gallery_has_the_strongest_tiles(client: TestClient, api: str) -> None:
    values = np.array(client.get(f"{api}/layers/contribution-tme/0").json()["values"])
    (tme,) = [row for row in client.get(f"{api}/gallery/0").json() if row["branch"] == "tme"]
    order = np.argsort(-values, kind="stable")
    assert [tile["tile"] for tile in tme["top"]] == order[:8].tolist()
    assert {tile["tile"] for tile in tme["bottom"]}.isdisjoint(order[:8].tolist())
    assert len(tme["bottom"]) == max(0, min(8, len(values) - 8))


def test_pictures_of_a_tile_are_what_the_model_reads(client: TestClient, api: str, store: CohortStore) -> None:
    centre = client.get(f"{api}/tiles/1/0").json()
    for at, mpp in enumerate(centre["pictures"]):
        response = client.get(f"{api}/tiles/1/0/{at}.jpg")
        assert response.headers["content-type"] == "image/jpeg"
        picture = Image.open(BytesIO(response.content))
        with open_slide(store.raw_folder / f"{PAINTED}.tif") as slide:
            left, top = (centre[name] / 0.5 - 256 * mpp / 0.5 / 2 for name in ("x_um", "y_um"))
            expected = slide.read_tile(left, top, 256, mpp)
        assert np.abs(np.asarray(picture, float) - expected).mean() < 6  # JPEG


def test_deep_zoom_and_thumbnail(client: TestClient, api: str) -> None:
    facts = client.get(api).json()
    assert (facts["width"], facts["height"], facts["mpp"], facts["max_level"]) == (1700, 1500, 0.5, 11)
    tile = client.get(f"{api}/deepzoom/11/6_5.jpg")
    assert Image.open(BytesIO(tile.content)).size == (1700 - 6 * 256, 1500 - 5 * 256)
    assert "private" in tile.headers["cache-control"]
    assert max(Image.open(BytesIO(client.get(f"{api}/thumbnail.jpg").content)).size) == 160


def test_imported_features_are_drawn_on_their_coordinates(client: TestClient, viewer: Viewer) -> None:
    wait_for_map(viewer, WITHOUT_PIXELS)
    api = f"/api/slides/{slide_of(viewer, WITHOUT_PIXELS).key}"
    facts, content = client.get(api).json(), client.get(f"{api}/map").json()
    assert (facts["has_pixels"], facts["mpp"], content["state"]) == (False, 1.0, "ready")
    assert max(content["levels"][0]["x"]) < facts["width"]
    white = Image.open(BytesIO(client.get(f"{api}/deepzoom/{facts['max_level']}/0_0.jpg").content))
    assert np.asarray(white).min() == 255
    assert "no pixels" in client.get(f"{api}/thumbnail.jpg").json()["error"]
    assert "no pixels" in client.get(f"{api}/tiles/0/0/0.jpg").json()["error"]


@pytest.mark.parametrize(
    ("patient", "reason"),
    [
        (WITHOUT_COORDINATES, "features without coordinates: no map can be drawn"),
        (UNENCODED, "no features of its slides"),
    ],
)
def test_a_slide_without_map_says_why(client: TestClient, viewer: Viewer, patient: str, reason: str) -> None:
    wait_for_map(viewer, patient)
    content = client.get(f"/api/slides/{slide_of(viewer, patient).key}/map").json()
    assert content["state"] == "refused"
    assert reason in content["error"]


@pytest.mark.parametrize(
    "path",
    [
        *("/map?output=G4", "/layers/contribution-x/0", "/layers/contribution-tumor/2", "/tiles/0/99999", "/tiles/2/0"),
        *("/gallery/9", "/tiles/0/0/7.jpg", "/deepzoom/99/0_0.jpg", "/deepzoom/11/99_0.jpg"),
    ],
)
def test_what_does_not_exist_is_named(client: TestClient, api: str, path: str) -> None:
    content = client.get(api + path)
    assert content.status_code in (404, 200)
    assert any(text in content.json()["error"] for text in ("There are", "The model has", "no tile"))


HOSTILE = (
    *(
        "../",
        "..%2f",
        "%2e%2e%2f",
        "....//",
        "..\\",
        "%5c..%5c",
        "/etc/passwd",
        "%2fetc%2fpasswd",
        "file:///etc/passwd",
    ),
    *("\0", "%00", "~root", "-1", "' or 1=1", "<script>", "a" * 5000),
)


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize(
    "form",
    [
        *("/{}", "/static/{}", "/static/{}etc/passwd", "/static/%2e%2e/app.py{}", "/api/slides/{}"),
        *("/api/slides/{}/thumbnail.jpg", "/api/slides/KEY/deepzoom/{}/0_0.jpg", "/api/slides/KEY/layers/{}/0"),
        *("/api/slides/KEY/tiles/0/{}", "/api/slides/KEY/map?output={}"),
    ],
)
def test_hostile_addresses_get_nothing(client: TestClient, viewer: Viewer, form: str, name: str) -> None:
    path = form.replace("KEY", slide_of(viewer, PAINTED).key).replace("{}", name)
    try:
        response = client.get(HOST + path, follow_redirects=False)
    except httpx2.InvalidURL:  # the client itself refuses control characters and endless addresses
        return
    assert response.status_code in (404, 307) or (response.status_code == 200 and "error" in response.text)
    assert "root:" not in response.text
    assert "<script>" not in response.text or response.headers["content-type"] == "application/json"


def test_a_link_that_leads_out_shows_no_pixels(client: TestClient, viewer: Viewer) -> None:
    wait_for_map(viewer, OUTSIDE)
    api = f"/api/slides/{slide_of(viewer, OUTSIDE).key}"
    assert client.get(f"{api}/thumbnail.jpg").status_code == 404
    assert client.get(api).json()["has_pixels"] is False


def test_nothing_is_written(client: TestClient, api: str, store: CohortStore) -> None:
    def state() -> dict[str, tuple[int, int]]:
        root = store.folder.parents[1]
        return {
            str(Path(folder) / name): ((Path(folder) / name).lstat().st_mtime_ns, (Path(folder) / name).lstat().st_size)
            for folder, folders, files in os.walk(root)
            for name in (*folders, *files)
        }

    before = state()
    for path in ("/map", "/gallery/0", "/thumbnail.jpg", "/deepzoom/11/0_0.jpg", "/tiles/0/0", "/tiles/0/0/0.jpg"):
        assert client.get(api + path).status_code == 200
    assert state() == before


def test_a_patient_is_attributed_once_while_in_memory(store: CohortStore, monkeypatch: pytest.MonkeyPatch) -> None:
    models = ensemble()
    cache = MapCache(models, CohortSlides(store, models.spec), capacity=1)
    asked = []
    read = cache._collection.read_patient
    monkeypatch.setattr(cache._collection, "read_patient", lambda patient: asked.append(patient) or read(patient))
    for patient in (PAINTED, PAINTED, WITHOUT_PIXELS, PAINTED):
        cache.request(patient).result(60)
    assert asked == [PAINTED, WITHOUT_PIXELS, PAINTED]
    assert cache.state(WITHOUT_PIXELS) == "absent"
    assert cache.state(PAINTED) == "ready"
    cache.close()


def test_classes_are_outputs_to_choose_from(store: CohortStore) -> None:
    from tests.dml.viewer.conftest import TOKEN, guarded

    models = ensemble("grade")
    viewer = Viewer(CohortSlides(store, models.spec), models, "student")
    client = guarded(viewer)
    client.get(f"/?token={TOKEN}")
    wait_for_map(viewer, PAINTED)
    api = f"/api/slides/{slide_of(viewer, PAINTED).key}"
    maps = {name: client.get(f"{api}/map?output={name}").json() for name in ("low", "high")}
    assert [content["output"] for content in maps.values()] == ["low", "high"]
    assert client.get(f"{api}/map").json()["output"] in maps
    values = [client.get(f"{api}/layers/contribution-total/0?output={name}").json()["values"] for name in maps]
    np.testing.assert_allclose(values[0], -np.array(values[1]), atol=1e-6)  # logits less their mean
    viewer.close()


def test_the_vendored_library_is_the_published_file_with_its_licence() -> None:
    assert hashlib.sha256((STATIC / OPENSEADRAGON).read_bytes()).hexdigest() == PUBLISHED
    assert "Redistribution and use in source and binary forms" in (STATIC / "openseadragon.LICENSE.txt").read_text()


def test_pages_name_no_other_server() -> None:
    for path in STATIC.iterdir():
        if path.suffix in (".html", ".js", ".css") and path.name != OPENSEADRAGON:
            text = path.read_text()
            assert "http" not in text.replace("Http", ""), path.name
            assert "innerHTML" not in text, path.name
