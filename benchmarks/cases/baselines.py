"""A training step of every deep baseline: four patients of 2,500 tokens at each of two magnifications."""

from functools import partial

from benchmarks.measurement import time_repeats
from benchmarks.registry import Benchmark, Measurement, register
from benchmarks.shapes import make_batch, make_dims, make_training_step
from dml.config import params as config
from dml.models import registry


def _time_step(name: str) -> Measurement:
    model = registry.entry(name).build(
        make_dims(), config.Params(cohort="synthetic", tasks=("survival",), folds=(0, 1))
    )
    return time_repeats(make_training_step(model, make_batch([2500] * 4)), repeats=3, max_seconds=10)


for name in registry.deep_names():
    register(Benchmark(f"{name} step, B = 4", "3 baselines", partial(_time_step, name)))
