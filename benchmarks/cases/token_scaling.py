"""Growth with the number of tokens: one patient, one magnification, training steps of teacher and student."""

from functools import partial

from benchmarks.measuring import repeated
from benchmarks.registry import Benchmark, Measured, register
from benchmarks.shapes import data_shape, made_batch, plain_step, student, teacher, teacher_step


def _step(kind: str, tokens: int) -> Measured:
    batch, shape = made_batch([tokens], levels=1), data_shape(levels=1)
    step = teacher_step(teacher(shape), batch) if kind == "teacher" else plain_step(student(shape), batch)
    found = repeated(step, repeats=5, at_most=15)
    return Measured(found.wall, found.cpu, {"us CPU a token": found.cpu / tokens * 1e6})


for kind in ("teacher", "student"):
    for tokens in (100, 1000, 10_000, 100_000):
        full = tokens == 100_000
        register(Benchmark(f"{kind} step, {tokens:,} tokens", "2 scaling", partial(_step, kind, tokens), full=full))
