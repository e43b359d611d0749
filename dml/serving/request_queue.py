"""Requests that wait for the model, and the thread that answers them: those that can be are predicted together."""

import math
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from dml.core.errors import Busy
from dml.registry.packaged_code import PredictFn


class QueueFull(Busy):
    """As many requests wait as may; `retry_after_s` is when there is likely to be room."""

    def __init__(self, waiting: int, retry_after_s: int) -> None:
        super().__init__(f"{waiting} requests are waiting already. Try again in {retry_after_s} s")
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """Rows of slides, inference parameters, and the answer: one row a patient."""

    rows: pd.DataFrame
    params: Mapping[str, Any]
    answer: "Future[pd.DataFrame]" = field(default_factory=Future)

    @property
    def patients(self) -> list[str]:
        """Patients in the order of the answer's rows."""
        return list(dict.fromkeys(str(patient) for patient in self.rows["patient_id"]))


class RequestQueue:
    """A queue with one thread that predicts.

    Requests with the same parameters and different patients are joined: the model takes one table. Where a table of
    several requests fails, each is predicted alone, so that nobody gets the error of another.

    Parameters
    ----------
    predict : callable
        Rows of slides and parameters to one row a patient; called from one thread only.
    most_waiting : int
        Requests that may wait.
    most_rows : int
        Rows of slides that are predicted together; a larger request is predicted alone.
    """

    def __init__(self, predict: PredictFn, most_waiting: int, most_rows: int) -> None:
        self._predict, self._most_waiting, self._most_rows = predict, most_waiting, most_rows
        self._waiting: deque[Request] = deque()
        self._changed = threading.Condition()
        self._stopped = False
        self._seconds = 0.0
        self._thread = threading.Thread(target=self._run, name="predictions", daemon=True)
        self._thread.start()

    def submit(self, rows: pd.DataFrame, params: Mapping[str, Any]) -> "Future[pd.DataFrame]":
        """Queue a request; a cancelled answer leaves the queue.

        Raises
        ------
        QueueFull
            If as many wait as may.
        """
        request = Request(rows, params)
        with self._changed:
            self._waiting = deque(each for each in self._waiting if not each.answer.cancelled())
            if len(self._waiting) >= self._most_waiting:
                raise QueueFull(len(self._waiting), self.retry_after_s)
            self._waiting.append(request)
            self._changed.notify()
        return request.answer

    @property
    def retry_after_s(self) -> int:
        """Seconds that those who wait now will take, from what the last ones took; at least 1."""
        return max(1, math.ceil(self._seconds * max(1, len(self._waiting))))

    def stop(self) -> None:
        """Refuse who waits, and end the thread when its present batch is done."""
        with self._changed:
            self._stopped = True
            for request in self._waiting:
                request.answer.cancel()
            self._waiting.clear()
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while batch := self._take():
            running = [request for request in batch if request.answer.set_running_or_notify_cancel()]
            start = time.monotonic()
            self._answer(running)
            taken = (time.monotonic() - start) / len(batch)
            self._seconds = taken if not self._seconds else 0.8 * self._seconds + 0.2 * taken

    def _take(self) -> list[Request]:
        """Wait for requests; return the first and those that can be joined with it, none when it is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._stopped)
            if self._stopped:
                return []
            batch = [self._waiting.popleft()]
            patients, rows = set(batch[0].patients), len(batch[0].rows)
            others: deque[Request] = deque()
            for request in self._waiting:
                fits = rows + len(request.rows) <= self._most_rows and request.params == batch[0].params
                if fits and patients.isdisjoint(request.patients):
                    batch.append(request)
                    patients.update(request.patients)
                    rows += len(request.rows)
                else:
                    others.append(request)
            self._waiting = others
            return batch

    def _answer(self, batch: Sequence[Request]) -> None:
        if not batch:
            return
        try:
            joined = pd.concat([request.rows for request in batch], ignore_index=True)
            predicted = self._predict(joined, batch[0].params)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer of the one request that causes it
            if len(batch) == 1:
                batch[0].answer.set_exception(error)
                return
            for request in batch:
                self._answer([request])
            return
        start = 0
        for request in batch:
            end = start + len(request.patients)
            request.answer.set_result(predicted.iloc[start:end].reset_index(drop=True))
            start = end
