"""Training and inference steps on 2,500 tokens at each of two magnifications."""

import torch

from benchmarks.measurement import time_repeats
from benchmarks.registry import Benchmark, Measurement, register
from benchmarks.shapes import make_batch, make_dims, make_student, make_teacher, make_teacher_step, make_training_step

TOKENS = 2500


def _time_teacher(patients: int) -> Measurement:
    return time_repeats(make_teacher_step(make_teacher(), make_batch([TOKENS] * patients)))


def _time_student(patients: int) -> Measurement:
    return time_repeats(make_training_step(make_student(), make_batch([TOKENS] * patients)))


def _time_distillation() -> Measurement:
    """Time a step of the student on stored teacher outputs, as in training."""
    batch = make_batch([TOKENS])
    with torch.inference_mode():
        output = make_teacher().eval()(batch)
    teacher_output = type(output)(
        {s: embedding.clone() for s, embedding in output.embeddings.items()}, output.logits.clone()
    )
    return time_repeats(make_training_step(make_student(), batch, teacher_output))


def _time_inference(tokens: int) -> Measurement:
    """Time one magnification, as the authors' code was measured."""
    model, batch = make_student(make_dims(levels=1)).eval(), make_batch([tokens], levels=1)

    def predict() -> None:
        with torch.inference_mode():
            model(batch)

    return time_repeats(predict, repeats=9)


GROUP = "1 model steps"
register(Benchmark("teacher step, B = 1", GROUP, lambda: _time_teacher(1), 1, 0.2, 0.5, "4.5 s; 4.5 GB"))
register(Benchmark("teacher step, B = 4", GROUP, lambda: _time_teacher(4), 1, 0.8, 1.2, "41.7 s; 17.1 GB"))
register(Benchmark("student step, B = 8", GROUP, lambda: _time_student(8), 1, 1.0, 1.5, "43 s; 19.6 GB"))
register(Benchmark("distillation step, B = 1", GROUP, _time_distillation, 1, 0.2, 0.5, "4.3 s; 2.8 GB"))
register(Benchmark("student inference, 2,500", GROUP, lambda: _time_inference(2500), 1, 0.04, 0.3, "1.1 s; 1.3 GB"))
register(
    Benchmark("student inference, 10,000", GROUP, lambda: _time_inference(10_000), 1, 0.15, 0.4, "36.7 s; 19.2 GB")
)
