"""What work cost counts wherever it was done."""

from dml.tracking.resources import Resources
from dml.training.fork_map import spread


def test_processes_that_helped_are_counted() -> None:
    counted = Resources()
    here, before = sum(range(1000)), counted.spent()["system/cpu_seconds"]
    assert spread(lambda i: sum(range(3_000_000)), 4, 2) == [sum(range(3_000_000))] * 4
    assert here == 499_500
    assert counted.spent()["system/cpu_seconds"] > before + 0.05
