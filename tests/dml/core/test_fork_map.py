"""Work spread over processes comes back in order, and so do its errors."""

import os
import signal
import time

import pytest

from dml.core.errors import DmlError, InputError
from dml.core.fork_map import fork_map


@pytest.mark.parametrize("workers", [1, 2, 3, 8])
def test_results_come_in_order(workers: int) -> None:
    assert fork_map(lambda i: i * i, 5, workers) == [0, 1, 4, 9, 16]


def test_the_work_is_done_elsewhere_by_as_many_processes_as_asked() -> None:
    assert os.getpid() not in (processes := fork_map(lambda i: os.getpid(), 6, 2))
    assert len(set(processes)) == 2


def test_a_user_error_comes_back_whole() -> None:
    def work(index: int) -> int:
        if index == 1:
            raise InputError("genes.csv", "no genes", "Add some")
        time.sleep(30 if index == 2 else 0)  # the others are not waited for
        return index

    with pytest.raises(InputError, match=r"genes.csv: no genes. Add some") as caught:
        fork_map(work, 4, 2)
    assert caught.value.remedy == "Add some"


def test_a_killed_process_is_told() -> None:
    def work(index: int) -> int:
        if index == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return index

    with pytest.raises(DmlError, match="died"):
        fork_map(work, 4, 2)
