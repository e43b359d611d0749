"""Requests are joined where the answers can be told apart, and nobody gets the error of another."""

import threading
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd
import pytest

from dml.core.errors import InputError
from dml.serving.request_queue import QueueFull, RequestQueue


class Model:
    """Counts calls; the first waits until it is let go."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.begun, self.go = threading.Event(), threading.Event()

    def __call__(self, rows: pd.DataFrame, params: Mapping[str, Any]) -> pd.DataFrame:
        self.calls.append(rows["patient_id"].tolist())
        self.begun.set()
        assert self.go.wait(10)
        if "bad" in set(rows["patient_id"]):
            raise InputError("bad", "spoiled", "Repair it")
        return pd.DataFrame({"patient_id": list(dict.fromkeys(rows["patient_id"])), **params})


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def queue(model: Model) -> Iterator[RequestQueue]:
    """A queue whose thread is busy with patient `first`."""
    made = RequestQueue(model, most_waiting=4, most_rows=4)
    made.submit(table("first"), {})
    assert model.begun.wait(10)
    yield made
    model.go.set()
    made.stop()


def table(*patients: str) -> pd.DataFrame:
    return pd.DataFrame({"patient_id": patients, "path": "x.npy"})


def test_requests_of_different_patients_and_equal_parameters_are_joined(model: Model, queue: RequestQueue) -> None:
    asked = [queue.submit(table("a", "a"), {}), queue.submit(table("b"), {"attention": True})]
    asked += [queue.submit(table("a"), {}), queue.submit(table("c"), {})]
    model.go.set()
    answers = [answer.result(10)["patient_id"].tolist() for answer in asked]
    assert answers == [["a"], ["b"], ["a"], ["c"]]
    assert model.calls == [["first"], ["a", "a", "c"], ["b"], ["a"]]


def test_a_failing_request_fails_alone(model: Model, queue: RequestQueue) -> None:
    good, bad, other = (queue.submit(table(name), {}) for name in ("good", "bad", "other"))
    model.go.set()
    assert [answer.result(10)["patient_id"].item() for answer in (good, other)] == ["good", "other"]
    with pytest.raises(InputError, match="spoiled"):
        bad.result(10)


def test_a_full_queue_refuses_and_a_cancelled_request_makes_room(model: Model, queue: RequestQueue) -> None:
    waiting = [queue.submit(table(f"p{i}"), {}) for i in range(4)]
    with pytest.raises(QueueFull, match="4 requests are waiting already") as refused:
        queue.submit(table("late"), {})
    assert refused.value.retry_after_s >= 1
    assert waiting[0].cancel()
    late = queue.submit(table("late"), {})
    model.go.set()
    assert late.result(10)["patient_id"].item() == "late"
    assert "p0" not in {patient for call in model.calls for patient in call}


def test_stopping_refuses_who_waits(model: Model) -> None:
    made = RequestQueue(model, most_waiting=4, most_rows=4)
    running = made.submit(table("first"), {})
    assert model.begun.wait(10)
    waiting = made.submit(table("second"), {})
    threading.Timer(0.1, model.go.set).start()
    made.stop()
    assert running.result(10)["patient_id"].item() == "first"
    assert waiting.cancelled()
