"""A function in a process of its own: what it returns and raises comes back, and it cannot take this process down."""

import ctypes
import os
import time
from pathlib import Path

import numpy as np
import pytest

from dml.core import limited_process
from dml.core.errors import ConfigError, InputError
from dml.core.limited_process import call_limited, stop_idle
from dml.core.limits import VARIABLE, Limits, apply, current

FILE = Path("slide.svs")


@pytest.fixture(autouse=True)
def fresh_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    stop_idle()
    monkeypatch.setenv(VARIABLE, '{"reader_gb": 0.5, "reader_seconds": 20}')


def double(values: np.ndarray) -> tuple[int, np.ndarray]:
    return os.getpid(), values * 2


def crash() -> None:
    ctypes.string_at(0)


def allocate(gigabytes: float) -> int:
    return len(bytearray(int(gigabytes * 1e9)))


def refuse(path: Path) -> None:
    raise InputError(path, "broken", "Mend it")


class Unpicklable(Exception):
    def __init__(self) -> None:
        super().__init__("holds a file")
        self.file = Path(os.devnull).open()  # noqa: SIM115


def raise_unpicklable() -> None:
    raise Unpicklable


def test_values_come_back_from_one_process_after_another_call() -> None:
    process, doubled = call_limited(FILE, double, np.arange(3))
    assert doubled.tolist() == [0, 2, 4]
    assert process != os.getpid()
    assert call_limited(FILE, double, np.arange(2))[0] == process


def test_a_crash_is_an_error_that_names_the_file_and_the_next_call_works() -> None:
    with pytest.raises(InputError, match=r"slide\.svs: the process that read it died \(SIGSEGV\)"):
        call_limited(FILE, crash)
    assert call_limited(FILE, double, np.arange(2))[1].tolist() == [0, 2]


def test_memory_and_time_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    assert call_limited(FILE, allocate, 0.1) == 100_000_000
    with pytest.raises(InputError, match=r"slide\.svs: reading it needs more than 0\.5 GB of memory"):
        call_limited(FILE, allocate, 3.0)
    stop_idle()
    monkeypatch.setenv(VARIABLE, '{"reader_seconds": 0.5}')
    with pytest.raises(InputError, match=r"longer than 0\.5 seconds.*limits\.reader_seconds"):
        call_limited(FILE, time.sleep, 60)


def test_errors_are_raised_as_they_were() -> None:
    with pytest.raises(InputError) as error:
        call_limited(FILE, refuse, FILE)
    assert (error.value.problem, error.value.remedy) == ("broken", "Mend it")
    with pytest.raises(RuntimeError, match="Unpicklable: holds a file"):
        call_limited(FILE, raise_unpicklable)


def test_processes_are_kept_only_when_they_answer() -> None:
    with pytest.raises(InputError):
        call_limited(FILE, crash)
    assert limited_process._idle == []


def test_limits_reach_the_processes_that_are_started(monkeypatch: pytest.MonkeyPatch) -> None:
    apply(Limits(table_bytes=5))
    assert call_limited(FILE, current).table_bytes == 5
    monkeypatch.setenv(VARIABLE, '{"tables": 5}')
    with pytest.raises(ConfigError, match="DML_LIMITS"):
        current()
