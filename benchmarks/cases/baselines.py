"""A training step of every deep baseline: four patients of 2,500 tokens at each of two magnifications."""

from functools import partial

from benchmarks.measuring import repeated
from benchmarks.registry import Benchmark, Measured, register
from benchmarks.shapes import data_shape, made_batch, plain_step
from dml.config import params as config
from dml.models import registry


def _step(name: str) -> Measured:
    model = registry.get(name).build(data_shape(), config.Model())
    return repeated(plain_step(model, made_batch([2500] * 4)), repeats=3, at_most=10)


for name in registry.names():
    register(Benchmark(f"{name} step, B = 4", "3 baselines", partial(_step, name)))
