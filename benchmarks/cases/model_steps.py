"""The rows of DESIGN.md's table: training and inference steps on 2,500 tokens at each of two magnifications."""

import torch

from benchmarks.measuring import repeated
from benchmarks.registry import Benchmark, Measured, register
from benchmarks.shapes import data_shape, made_batch, plain_step, student, teacher, teacher_step

TOKENS = 2500


def _teacher(patients: int) -> Measured:
    return repeated(teacher_step(teacher(), made_batch([TOKENS] * patients)))


def _student(patients: int) -> Measured:
    return repeated(plain_step(student(), made_batch([TOKENS] * patients)))


def _distillation() -> Measured:
    """Time a student's step on a lesson: the teacher has spoken before, as in the training loop."""
    batch = made_batch([TOKENS])
    with torch.inference_mode():
        said = teacher().eval()(batch)
    lesson = type(said)(said.tumor.clone(), said.tme.clone(), said.logits.clone())
    return repeated(plain_step(student(), batch, lesson))


def _inference(tokens: int) -> Measured:
    """Time one magnification, as the authors' code was measured."""
    model, batch = student(data_shape(levels=1)).eval(), made_batch([tokens], levels=1)

    def predict() -> None:
        with torch.inference_mode():
            model(batch)

    return repeated(predict, repeats=9)


GROUP = "1 model steps"
register(Benchmark("teacher step, B = 1", GROUP, lambda: _teacher(1), 1, 0.2, 0.5, "4.5 s; 4.5 GB"))
register(Benchmark("teacher step, B = 4", GROUP, lambda: _teacher(4), 1, 0.8, 1.2, "41.7 s; 17.1 GB"))
register(Benchmark("student step, B = 8", GROUP, lambda: _student(8), 1, 1.0, 1.5, "43 s; 19.6 GB"))
register(Benchmark("distillation step, B = 1", GROUP, _distillation, 1, 0.2, 0.5, "4.3 s; 2.8 GB"))
register(Benchmark("student inference, 2,500", GROUP, lambda: _inference(2500), 1, 0.04, 0.3, "1.1 s; 1.3 GB"))
register(Benchmark("student inference, 10,000", GROUP, lambda: _inference(10_000), 1, 0.15, 0.4, "36.7 s; 19.2 GB"))
