"""Several processes that train one model do what one does, and what stops one stops all."""

import os
import signal

import numpy as np
import pandas as pd
import pytest
import torch

from dml.config import params as config
from dml.core.errors import ConfigError, DmlError, InputError
from dml.training.distributed import SingleProcess, launch
from dml.training.train import distill_student, train_teacher
from tests.synthetic import PARAMS, change, cohort, fold, quiet

pytest.importorskip("lightning_fabric", reason="Lightning Fabric is an extra: pip install -e '.[devices]'")
CPU = torch.device("cpu")


def with_devices(devices: int, **optimisation: object) -> config.Params:
    return change(PARAMS, optimisation={"epochs": 2, "devices": devices, **optimisation})


def sum_gradients(process: SingleProcess) -> list[float]:
    parameter, unreached = torch.nn.Parameter(torch.zeros(3)), torch.nn.Parameter(torch.zeros(2, 1))
    parameter.grad = torch.arange(3.0) * (process.rank + 1)
    if process.rank:
        unreached.grad = torch.ones(2, 1)
    process.all_reduce_gradients([parameter, unreached])
    assert parameter.grad is not None
    assert unreached.grad is not None
    return [*parameter.grad.tolist(), *unreached.grad.flatten().tolist()]


def test_gradients_are_added_up_also_where_only_one_has_any() -> None:
    assert launch(sum_gradients, 2, CPU) == [0.0, 3.0, 6.0, 1.0, 1.0]


def test_figures_are_added_up_and_decisions_are_the_first_ones() -> None:
    def work(process: SingleProcess) -> tuple[dict[str, float], float]:
        metrics = {"loss": 1.0 + process.rank} | ({"conflicts": 0.5} if process.rank else {})
        return process.all_reduce_sum(metrics), process.broadcast(float(process.rank))

    assert launch(work, 2, CPU) == ({"loss": 3.0, "conflicts": 0.5}, 0.0)


def test_two_processes_train_the_model_that_one_trains() -> None:
    data = cohort(60)
    alone, both = (quiet(with_devices(devices)) for devices in (1, 2))
    teachers = [train_teacher(fold(data), params, "survival") for params in (alone, both)]
    np.testing.assert_allclose(*(t.history for t in teachers), rtol=1e-3)
    students = [distill_student(fold(data), params, "survival", teachers[0].model).model for params in (alone, both)]
    for first, second in (tuple(t.model for t in teachers), students):
        predictions = [model.predict(data).drop(columns="patient_id") for model in (first, second)]
        np.testing.assert_allclose(*predictions, rtol=1e-3, atol=1e-4)


def test_trained_together_twice_it_is_the_same() -> None:
    first, second = (train_teacher(fold(cohort(30)), with_devices(2), "survival").history for _ in range(2))
    pd.testing.assert_frame_equal(first, second, check_exact=True)


def test_more_processes_than_patients_in_a_step() -> None:
    history = train_teacher(fold(cohort(30)), with_devices(3, batch_size=2), "survival").history
    assert np.isfinite(history["train_task"]).all()


def test_a_user_error_comes_back_whole() -> None:
    def work(process: SingleProcess) -> None:
        raise InputError("genes.csv", "no genes", "Add some")

    with pytest.raises(InputError, match=r"genes.csv: no genes. Add some"):
        launch(work, 2, CPU)


def test_a_killed_process_is_told() -> None:
    def work(process: SingleProcess) -> None:
        if process.rank:
            os.kill(os.getpid(), signal.SIGKILL)
        process.all_reduce_sum({"waits": 1.0})

    with pytest.raises(DmlError, match="died"):
        launch(work, 2, CPU)


def test_more_gpus_than_there_are() -> None:
    asked = torch.cuda.device_count() + 2
    with pytest.raises(ConfigError, match=f"optimisation.devices: {asked}, but this machine has {asked - 2}"):
        launch(lambda process: None, asked, torch.device("cuda"))
