"""The addresses of the viewer: pages, the list of slides, their tiles, maps and numbers. All of it is read only.

Addresses hold ids of slides (`dml.viewer.slide_collection.SlideEntry.key`) and numbers, never a path.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from dml.core.errors import DmlError, InputError
from dml.inference.ensemble import Ensemble
from dml.viewer.map_cache import MapCache
from dml.viewer.map_view import MapView, prediction_text
from dml.viewer.measured_layers import MeasuredSpots
from dml.viewer.pixels import BlankPixels, OpenSlides, SlidePixels, TileCache, encode
from dml.viewer.slide_collection import SlideCollection, SlideEntry, by_key

STATIC = Path(__file__).with_name("static")
THUMBNAIL = 160
"""Longer side in pixels."""
WAIT_S = 0.3
"""How long a request for a map waits before it answers that the map is being computed."""
KEEP = {"Cache-Control": "private, max-age=3600"}
"""A browser may keep pictures for an hour: they do not change while the viewer runs."""
Endpoint = Callable[[Request], Response]


@dataclass
class Viewer:
    """What the viewer shows: slides, a model, and what of them is in memory.

    Parameters
    ----------
    model : str
        As the user named it.
    stored : mapping
        Predictions that lie beside the model, by patient.
    """

    collection: SlideCollection
    ensemble: Ensemble
    model: str
    stored: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.slides = by_key(self.collection.entries())
        self.maps = MapCache(self.ensemble, self.collection)
        self._open, self._tiles = OpenSlides(), TileCache()
        self._blank: dict[str, BlankPixels] = {}
        self._measured: dict[str, MeasuredSpots | None] = {}

    def entry(self, request: Request) -> SlideEntry:
        """Return the slide of an address; InputError for an unknown id."""
        key = request.path_params["key"]
        if key not in self.slides:
            raise InputError("slide", "no such id", "Open it from the list")
        return self.slides[key]

    def pixels(self, entry: SlideEntry) -> SlidePixels | BlankPixels:
        """Return the pixels of a slide; without a file, the white extent of its tiles."""
        if entry.file is not None:
            return self._open.get(entry.file, entry.stated_mpp)
        if entry.key not in self._blank:
            view = self.map_view(entry, None)
            if view is None:
                raise InputError(entry.slide_id, "its map is being computed", "Try again")
            coarsest = view.slide.tiles.sort_values("tile_um").iloc[-1]
            coords = view.slide.tiles[["x_um", "y_um"]].to_numpy(float)
            self._blank[entry.key] = BlankPixels(coords, float(coarsest["tile_um"]))
        return self._blank[entry.key]

    def map_view(self, entry: SlideEntry, output: str | None) -> MapView | None:
        """Return the map of a slide; None while it is being computed.

        Raises
        ------
        DmlError
            If there can be none; the message says why.
        """
        future = self.maps.request(entry.patient_id)
        try:
            maps = future.result(WAIT_S)
        except TimeoutError:
            return None
        task = self.ensemble.spec.preprocessor.task
        return MapView(maps.slide_map(entry, self.model, task, output), maps, self.measured_spots(entry))

    def measured_spots(self, entry: SlideEntry) -> MeasuredSpots | None:
        """Return the spots of a slide with pixels, read once; None without."""
        if entry.key not in self._measured:
            mpp = None if entry.file is None else self._open.get(entry.file, entry.stated_mpp).mpp
            self._measured[entry.key] = None if mpp is None else self.collection.read_spots(entry, mpp)
        return self._measured[entry.key]

    def picture(self, key: tuple[object, ...], make: Callable[[], Any]) -> Response:
        """Return a picture as JPEG, from memory if it is there."""
        tile = self._tiles.get(key)
        if tile is None:
            tile = encode(make())
            self._tiles.put(key, tile)
        return Response(tile, media_type="image/jpeg", headers=KEEP)

    def close(self) -> None:
        """Close slides, and end the thread of the maps."""
        self.maps.close()
        self._open.close()


def make_app(viewer: Viewer) -> Starlette:
    """Return the application, without its guard."""
    slide = "/api/slides/{key:str}"

    def route(path: str, endpoint: Callable[[Viewer, Request], Response]) -> Route:
        return Route(path, _answer_errors(viewer, endpoint), methods=["GET"])

    return Starlette(
        routes=[
            Route("/", lambda request: FileResponse(STATIC / "index.html")),
            Mount("/static", StaticFiles(directory=STATIC)),
            route("/api/slides", list_slides),
            route(slide, describe_slide),
            route(slide + "/thumbnail.jpg", thumbnail),
            route(slide + "/deepzoom/{level:int}/{column:int}_{row:int}.jpg", deep_zoom),
            route(slide + "/map", describe_map),
            route(slide + "/layers/{layer:str}/{level:int}", layer),
            route(slide + "/tiles/{level:int}/{tile:int}", tile_numbers),
            route(slide + "/tiles/{level:int}/{tile:int}/{at:int}.jpg", tile_picture),
            route(slide + "/gallery/{level:int}", gallery),
        ]
    )


def _answer_errors(viewer: Viewer, endpoint: Callable[[Viewer, Request], Response]) -> Endpoint:
    """Answer what a user can act on as JSON with its message."""

    @wraps(endpoint)
    def answer(request: Request) -> Response:
        try:
            return endpoint(viewer, request)
        except DmlError as error:
            return JSONResponse({"error": str(error)}, 404 if isinstance(error, InputError) else 409)

    return answer


def list_slides(viewer: Viewer, request: Request) -> Response:
    """List the slides: patient, status, outcome, and the prediction as far as it is known."""
    known = {**viewer.stored, **viewer.maps.predictions}
    task = viewer.ensemble.spec.preprocessor.task
    rows = []
    for entry in viewer.slides.values():
        predicted = known.get(entry.patient_id)
        text, number = ("", None) if predicted is None else prediction_text(predicted, task.kind)
        rows.append(
            {
                "key": entry.key,
                "slide": entry.slide_id,
                "patient": entry.patient_id,
                "status": entry.status,
                "map": viewer.maps.state(entry.patient_id),
                "has_pixels": entry.file is not None,
                "outcome": entry.outcome,
                "prediction": text,
                "value": number,
            }
        )
    heads = {"collection": viewer.collection.name, "model": viewer.model, "task": task.name, "kind": task.kind}
    return JSONResponse({**heads, "slides": rows})


def describe_slide(viewer: Viewer, request: Request) -> Response:
    """Describe a slide: size and resolution."""
    entry = viewer.entry(request)
    facts = {"key": entry.key, "slide": entry.slide_id, "patient": entry.patient_id, "status": entry.status}
    pixels = viewer.pixels(entry)
    width, height = pixels.dimensions
    size = {"width": width, "height": height, "mpp": pixels.mpp, "max_level": pixels.max_level}
    return JSONResponse({**facts, **size, "has_pixels": entry.file is not None, "outcome": entry.outcome})


def thumbnail(viewer: Viewer, request: Request) -> Response:
    """Return the overview of a slide with pixels."""
    entry = viewer.entry(request)
    pixels = _with_pixels(viewer, entry)
    return viewer.picture((entry.key, "thumbnail"), lambda: pixels.thumbnail(THUMBNAIL))


def _with_pixels(viewer: Viewer, entry: SlideEntry) -> SlidePixels:
    pixels = viewer.pixels(entry) if entry.file is not None else None
    if not isinstance(pixels, SlidePixels):
        raise InputError(entry.slide_id, "no pixels", "Its features were imported without the slide")
    return pixels


def deep_zoom(viewer: Viewer, request: Request) -> Response:
    """Return one tile of the deep zoom."""
    entry, at = viewer.entry(request), request.path_params
    level, column, row = at["level"], at["column"], at["row"]
    pixels = viewer.pixels(entry)
    return viewer.picture((entry.key, level, column, row), lambda: pixels.tile(level, column, row))


def describe_map(viewer: Viewer, request: Request) -> Response:
    """Describe the map: prediction, outputs, tiles of each resolution, layers; else that it is computed, or why not."""
    entry = viewer.entry(request)
    try:
        view = viewer.map_view(entry, request.query_params.get("output"))
    except DmlError as error:
        return JSONResponse({"state": "refused", "error": str(error)})
    if view is None:
        return JSONResponse({"state": "computing"}, 202)
    return JSONResponse({"state": "ready", **view.describe(viewer.ensemble)})


def _ready(viewer: Viewer, request: Request) -> MapView:
    view = viewer.map_view(viewer.entry(request), request.query_params.get("output"))
    if view is None:
        raise InputError("map", "it is being computed", "Try again")
    return view


def layer(viewer: Viewer, request: Request) -> Response:
    """Return a value per tile, and the colour scale."""
    view = _ready(viewer, request)
    return JSONResponse(view.layer(request.path_params["layer"], request.path_params["level"]))


def tile_numbers(viewer: Viewer, request: Request) -> Response:
    """Return the numbers of one tile."""
    view = _ready(viewer, request)
    return JSONResponse(view.tile(request.path_params["level"], request.path_params["tile"]))


def tile_picture(viewer: Viewer, request: Request) -> Response:
    """Return the picture around a tile's centre as the model reads it at a resolution."""
    entry, at = viewer.entry(request), request.path_params
    pixels, view = _with_pixels(viewer, entry), _ready(viewer, request)
    row = view.tile_row(at["level"], at["tile"])
    mpp, tile_um = view.levels(at["at"])
    square = float(row["x_um"]), float(row["y_um"]), int(np.rint(tile_um / mpp)), mpp
    return viewer.picture((entry.key, "square", *square), lambda: pixels.square(*square))


def gallery(viewer: Viewer, request: Request) -> Response:
    """Return the tiles that raise and that lower the output most, per branch."""
    view = _ready(viewer, request)
    return JSONResponse(view.gallery(request.path_params["level"]))
