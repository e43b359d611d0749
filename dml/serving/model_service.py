"""The HTTP application: the addresses of MLflow's scoring server, with limits and answers that say what to do."""

import asyncio
from collections.abc import Mapping
from concurrent.futures import CancelledError
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import pandas as pd
from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from dml.core.errors import DmlError, InputError
from dml.inference.slide_inputs import FEATURES
from dml.registry.packaged_code import PredictFn
from dml.serving.request_body import Body, parse_body
from dml.serving.request_queue import QueueFull, RequestQueue


class ServingLimits(BaseModel):
    """What one request, and all that wait, may take."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    body_bytes: PositiveInt = 2**20
    rows: PositiveInt = 200
    batch_rows: PositiveInt = 16
    waiting: PositiveInt = 32
    seconds: PositiveFloat = 300.0
    body_seconds: PositiveFloat = 10.0


@dataclass(frozen=True, slots=True)
class Service:
    """A model that answers: slides and feature files wait in queues of their own, so that no file waits for a slide."""

    name: str
    limits: ServingLimits
    features: RequestQueue
    slides: RequestQueue

    @classmethod
    def of(cls, name: str, predict: PredictFn, limits: ServingLimits, shared: bool = False) -> "Service":
        """Start the queues; with `shared` there is one, for a model that only one thread may use."""
        first = RequestQueue(predict, limits.waiting, limits.batch_rows)
        second = first if shared else RequestQueue(predict, limits.waiting, limits.batch_rows)
        return cls(name, limits, first, second)

    def queue(self, body: Body) -> RequestQueue:
        """Return the queue of a request."""
        only_features = all(PurePath(row.path).suffix in FEATURES for row in body.dataframe_records)
        return self.features if only_features else self.slides

    def stop(self) -> None:
        """End the queues."""
        self.features.stop()
        if self.slides is not self.features:
            self.slides.stop()


def make_app(service: Service) -> Starlette:
    """Return the application of a service."""

    async def invocations(request: HttpRequest) -> Response:
        return await _answer(service, request)

    async def ping(request: HttpRequest) -> Response:
        return JSONResponse({"model": service.name, "status": "ok"})

    routes = [Route("/invocations", invocations, methods=["POST"])]
    routes += [Route(path, ping) for path in ("/ping", "/health", "/version")]
    return Starlette(routes=routes)


async def _answer(service: Service, request: HttpRequest) -> Response:
    limits = service.limits
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        return _refuse(415, "the request is not application/json. Send JSON with that content type")
    try:
        content = await asyncio.wait_for(_read(request, limits.body_bytes), limits.body_seconds)
    except TimeoutError:
        return _refuse(408, f"the request did not arrive within {limits.body_seconds:g} s. Send it at once")
    except ClientDisconnect:
        return Response(status_code=400)
    if content is None:
        return _refuse(413, f"the request is larger than {limits.body_bytes} bytes. Send it in parts")
    try:
        body = parse_body(content)
    except InputError as error:
        return _refuse(400, str(error))
    if len(body.dataframe_records) > limits.rows:
        return _refuse(413, f"{len(body.dataframe_records)} rows; at most {limits.rows} are taken. Send them in parts")
    return await _predict(service.queue(body), body, limits.seconds)


async def _predict(queue: RequestQueue, body: Body, seconds: float) -> Response:
    try:
        answer = queue.submit(body.table, body.asked)
    except QueueFull as full:
        return _refuse(503, str(full), {"Retry-After": str(full.retry_after_s)})
    try:
        predicted = await asyncio.wait_for(asyncio.wrap_future(answer), seconds)
    except TimeoutError:
        wait = {"Retry-After": str(queue.retry_after_s)}
        return _refuse(503, f"not answered within {seconds:g} s. Send fewer rows, or try again later", wait)
    except (CancelledError, asyncio.CancelledError):
        return _refuse(503, "the server is stopping. Try again later", {"Retry-After": "10"})
    except DmlError as error:
        return _refuse(400, str(error))
    return JSONResponse({"predictions": _records(predicted)})


async def _read(request: HttpRequest, most: int) -> bytes | None:
    """Read a body; None as soon as it is known to be larger than `most`."""
    stated = request.headers.get("content-length", "")
    if stated.isdigit() and int(stated) > most:
        return None
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > most:
            return None
    return bytes(content)


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as JSON has them, null for what is missing."""
    rows = table.to_dict("records")
    return [{str(name): None if pd.isna(value) else value for name, value in row.items()} for row in rows]


def _refuse(status: int, reason: str, headers: Mapping[str, str] | None = None) -> Response:
    return JSONResponse({"error": reason}, status, headers=dict(headers or {}))
