"""On how many CPU threads numbers are made: they must not depend on how many cores a machine has.

Sums depend on how many threads share them; with the count fixed they come out the same to the bit.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def on_threads(count: int) -> Iterator[None]:
    """Let torch compute on so many threads, then on as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def on_one_blas_thread() -> Iterator[None]:
    """Let numpy's linear algebra compute on one thread: for what is fitted in float64 and written as it is."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"):
        yield
