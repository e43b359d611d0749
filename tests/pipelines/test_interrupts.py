"""Stages ended by SIGKILL and SIGINT at random moments: no half file, and a rerun gives the undisturbed bytes.

`DML_INTERRUPTS` sets how many (12), `DML_TEST_SEED` the seed. The stages run as forks of one process that has imported
them, so that a signal meets their work, not the seconds of their imports.
"""

import hashlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import safetensors
import yaml

from tests.conftest import SEED
from tests.pipelines.conftest import Workplace, copy_of_the_repository

pytestmark = pytest.mark.slow

INTERRUPTS = int(os.environ.get("DML_INTERRUPTS", "12"))
TASK, FOLDS = ("--task", "survival"), (("--fold", "0"), ("--fold", "1"))
STAGES: tuple[tuple[str, ...], ...] = (
    ("cohort",),
    ("tile",),
    ("extract_features",),
    ("train_teacher", *TASK, *FOLDS[0]),
    ("evaluate", *TASK),
    ("register", *TASK),
)
"""Those that are ended; what they need is made beforehand, undisturbed."""
MADE = ("data/demo", "models", "reports")
FORKS = """
import importlib, json, os, signal, sys
stages = {name: importlib.import_module(f"pipelines.{name}") for name in json.loads(sys.argv[1])}
print("ready", flush=True)
for line in sys.stdin:
    name, *arguments = json.loads(line)
    pid = os.fork()
    if not pid:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        log = os.open("stage.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1), os.dup2(log, 2), os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.argv = [name, *arguments]
        sys.exit(stages[name].main())
    print(pid, flush=True)
    print(os.waitpid(pid, 0)[1], flush=True)
"""


class Stages:
    """Runs stages of a workplace, to their end or to a signal."""

    def __init__(self, place: Workplace) -> None:
        self.place = place
        names = ["cohort", "tile", "extract_features", "split", "evaluate", "register"]
        names += ["train_teacher", "distill_student"]
        command = [sys.executable, "-c", FORKS, json.dumps(names)]
        environment = {**place.environment, "OMP_NUM_THREADS": "1"}
        self.parent = subprocess.Popen(
            command, cwd=place.folder, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._line() == "ready\n"

    def run(self, stage: tuple[str, ...]) -> float:
        began = time.monotonic()
        self._start(stage)
        status = int(self._line())
        assert status == 0, f"{stage}: status {status}\n{(self.place.folder / 'stage.log').read_text()[-4000:]}"
        return time.monotonic() - began

    def interrupt(self, stage: tuple[str, ...], after_s: float, signal_: signal.Signals) -> int:
        """Start a stage and end it and its children; return its status."""
        pid = self._start(stage)
        time.sleep(after_s)
        try:
            os.killpg(pid, signal_)
        except ProcessLookupError:
            sys.stdout.write(f"{stage} had ended after {after_s:.2f} s\n")
        return int(self._line())

    def close(self) -> None:
        with self.parent:  # closes its pipes
            self.parent.kill()

    def _start(self, stage: tuple[str, ...]) -> int:
        assert self.parent.stdin is not None
        self.parent.stdin.write(json.dumps(stage) + "\n")
        self.parent.stdin.flush()
        return int(self._line())

    def _line(self) -> str:
        assert self.parent.stdout is not None
        return self.parent.stdout.readline()


@pytest.fixture
def stages(tmp_path: Path) -> Iterator[Stages]:
    """A tiny demo, all stages but the interrupted ones have run."""
    place = copy_of_the_repository(tmp_path / "repo")
    place.set("", tasks=["survival"], folds=[0, 1])
    place.set("optimisation", epochs=2, ensemble_size=1)
    place.set("evaluation", resamples=50)
    place.set("checks", min_patients=10, min_class_size=2)
    place.run("dml", "cohort", "demo", "--patients", "14", "--slide-px", "512")
    stages = Stages(place)
    yield stages
    stages.close()


def test_what_is_interrupted_ends_as_if_undisturbed(stages: Stages) -> None:
    seconds = {stage: stages.run(stage) for stage in (*STAGES[:3], ("split",), STAGES[3])}
    for stage in (("train_teacher", *TASK, *FOLDS[1]), *(("distill_student", *TASK, *fold) for fold in FOLDS)):
        stages.run(stage)
    seconds |= {stage: stages.run(stage) for stage in STAGES[4:]}
    expected = made(stages.place.folder)
    draw = random.Random(SEED)
    sys.stdout.write(f"seed {SEED}, {INTERRUPTS} signals, seconds undisturbed: {seconds}\n")
    ended = 0
    plan = [STAGES[i % len(STAGES)] for i in range(INTERRUPTS)]
    for stage in STAGES:
        if plan.count(stage):
            forget(stages.place.folder, stage)
        for _ in range(plan.count(stage)):
            kind = draw.choice([signal.SIGKILL, signal.SIGINT])
            ended += stages.interrupt(stage, draw.uniform(0.0, seconds[stage]), kind) != 0
            broken = half_files(stages.place.folder)
            assert not broken, f"seed {SEED}, {stage} after {kind.name}: {broken}"
        stages.run(stage)
    assert made(stages.place.folder) == expected, f"seed {SEED}"
    assert ended >= INTERRUPTS // 2, f"only {ended} signals met a stage at work"
    versions = json.loads(stages.place.run("dml", "registry", "ls", "--json").stdout)
    assert {row["aliases"] for row in versions} >= {"challenger"}


def forget(folder: Path, stage: tuple[str, ...]) -> None:
    """Delete finished slides, so that the stage has work to do; the other stages begin anew by themselves."""
    name = {"tile": "tiles", "extract_features": "features"}.get(stage[0])
    if name:
        shutil.rmtree(folder / "data/demo" / name)
        shutil.rmtree(folder / ".work" / name)


def made(folder: Path) -> dict[str, str]:
    """Digests of all that the stages wrote."""
    files = sorted(path for name in MADE for path in (folder / name).rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if path.suffix != ".tmp"  # of a killed writer; DVC deletes them with the outputs of the stage
    }


def half_files(folder: Path) -> list[str]:
    """Name the files that cannot be read, each with its reason."""
    readers = {
        ".parquet": pq.read_table,
        ".json": lambda path: json.loads(path.read_text()),
        ".safetensors": open_weights,
    }
    broken = []
    for path in (path for name in MADE for path in (folder / name).rglob("*") if path.suffix in readers):
        try:
            readers[path.suffix](path)
        except Exception as error:  # noqa: BLE001  whatever a reader raises
            broken.append(f"{path}: {error!r}")
    with closing(sqlite3.connect(folder / "mlruns/mlflow.db")) as store:
        if (answer := store.execute("pragma integrity_check").fetchone()[0]) != "ok":
            broken.append(f"mlflow.db: {answer}")
    lock = folder / "dvc.lock"
    if lock.exists() and not isinstance(yaml.safe_load(lock.read_text()), dict):
        broken.append("dvc.lock")
    return broken


def open_weights(path: Path) -> None:
    with safetensors.safe_open(path, "numpy") as file:
        for name in file.keys():  # noqa: SIM118  it is no dictionary
            file.get_tensor(name)
