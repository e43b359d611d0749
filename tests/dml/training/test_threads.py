"""Predictions do not depend on how many threads the process has."""

import pandas as pd
import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from dml.config import params as config
from dml.training.runtime import one_blas_thread
from dml.training.train import train_teacher
from tests.synthetic import PARAMS, change, cohort, fold


@pytest.fixture
def threads():
    """Leave the number of threads as it was."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_predictions_and_distillation_targets_are_the_same_to_the_bit(threads):
    data = cohort(30)
    params = change(
        PARAMS,
        model={"width": 64, "gene_width": 64, "linear_offset": config.LinearOffset(components=2)},
        optimisation={"epochs": 1, "batch_size": 16},
    )
    model = train_teacher(fold(data), params, "survival").model
    predictions, targets = [], []
    for count in (1, 2, 3):
        threads(count)
        predictions.append(model.predict(data))
        read = model.reader(data)
        targets.append(model.distillation_targets([read(case) for case in data.cases], 0))
    for other, other_targets in zip(predictions[1:], targets[1:], strict=True):
        pd.testing.assert_frame_equal(predictions[0], other, check_exact=True)
        assert all(torch.equal(other_targets[name].logits, target.logits) for name, target in targets[0].items())


def test_linear_algebra_has_one_thread_inside_and_as_many_as_before_after_it():
    def threads_of_blas():
        return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    with threadpool_limits(2, user_api="blas"):
        before = threads_of_blas()
        with one_blas_thread():
            assert threads_of_blas() == {1}
        assert threads_of_blas() == before
