"""Growth with the number of tokens: one patient, one magnification, training steps of teacher and student."""

from functools import partial

from benchmarks.measurement import time_repeats
from benchmarks.registry import Benchmark, Measurement, register
from benchmarks.shapes import make_batch, make_dims, make_student, make_teacher, make_teacher_step, make_training_step


def _step(kind: str, tokens: int) -> Measurement:
    batch, dims = make_batch([tokens], levels=1), make_dims(levels=1)
    step = (
        make_teacher_step(make_teacher(dims), batch)
        if kind == "teacher"
        else make_training_step(make_student(dims), batch)
    )
    result = time_repeats(step, repeats=5, max_seconds=15)
    return Measurement(result.wall_s, result.cpu_s, {"us CPU a token": result.cpu_s / tokens * 1e6})


for kind in ("teacher", "student"):
    for tokens in (100, 1000, 10_000, 100_000):
        full = tokens == 100_000
        register(Benchmark(f"{kind} step, {tokens:,} tokens", "2 scaling", partial(_step, kind, tokens), full=full))
