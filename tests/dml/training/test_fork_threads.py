"""Members are trained in forked processes; what they do there must not need threads that the parent had."""

import subprocess
import sys
from pathlib import Path

CODE = """
import torch
torch.set_num_threads(4)
a = torch.randn(2000, 2000); (a @ a).softmax(1)          # the parent's pool of threads exists before the fork
from tests.synthetic import PARAMS, change, cohort, fold
from dml.training.train import train_teacher
params = change(PARAMS, optimisation={"epochs": 1, "ensemble_size": 2, "workers": 2})
for task in ("survival", "grade"):
    print(len(train_teacher(fold(cohort(60)), params, task).out_of_fold))
"""


def test_training_after_the_parent_used_threads_does_not_hang() -> None:
    root = Path(__file__).parents[3]
    environment = {"PYTHONPATH": str(root), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "4"}
    result = subprocess.run(
        [sys.executable, "-c", CODE], cwd=root, env=environment, capture_output=True, text=True, timeout=240, check=True
    )
    assert len(result.stdout.split()) == 2
