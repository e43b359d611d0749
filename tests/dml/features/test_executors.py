"""Slides on Ray become the same bytes as on threads of one process; a killed worker loses nothing."""

import logging
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pandas as pd
import psutil
import pytest
import torch
from torch import nn

from dml.config.params import Embed, Scale, Tiles
from dml.core.errors import ConfigError, DmlError, InputError
from dml.core.progress import Advance
from dml.features import executors
from dml.features.encode_cohort import encode_cohort
from dml.features.executors import Executor, LocalExecutor, ParallelTask, open_executor
from dml.features.tile_cohort import tile_cohort
from tests.painted import tissue_pixels, write_slide

TILES = Tiles(tile_px=64, max_failed=0.5)
EMBED = Embed(encoder="mine", batch_size=8, device="cpu")
SLIDES = 6


@pytest.fixture(scope="module")
def ray_of_two() -> Iterator[Executor]:
    """Ray on this machine with two workers; one for all tests, since it takes seconds to start."""
    pytest.importorskip("ray", reason="ray is not installed: pip install -e '.[ray]' -c constraints.txt")
    with open_executor(Scale(engine="ray", retries=3), workers=2) as executor:
        yield executor


def doubled(numbers: Sequence[int], threads: int, advance: Advance) -> list[int]:
    advance(sum(numbers))
    return [2 * number for number in numbers]


def task(run: Callable[[Sequence[int], int, Advance], list[int]] = doubled) -> ParallelTask[int, int]:
    return ParallelTask(run, size=lambda number: number, on_failure=lambda number, why: -number, threads=2)


def test_local_hands_everything_to_one_call() -> None:
    finished: list[int] = []
    assert LocalExecutor().map(task(), [3, 1, 2], finished.append) == [6, 2, 4]
    assert finished == [6]


def test_local_is_what_params_give() -> None:
    with open_executor(Scale(), workers=2) as executor:
        assert isinstance(executor, LocalExecutor)
        assert executor.device("cpu") == "cpu"


def test_without_ray_the_remedy_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(ConfigError, match=r"pip install -e '\.\[ray\]'"), open_executor(Scale(engine="ray"), workers=2):
        pass


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "nonsense"])
def test_no_cluster_at_the_address(address: str) -> None:
    pytest.importorskip("ray", reason="ray is not installed: pip install -e '.[ray]' -c constraints.txt")
    message = rf"no Ray cluster at {address} .*RAY_ADDRESS, or set scale\.engine: local"
    with pytest.raises(ConfigError, match=message), open_executor(Scale(engine="ray", address=address), workers=2):
        pass


@pytest.mark.slow
def test_ray_returns_results_in_order(ray_of_two: Executor) -> None:
    def slow_first(numbers: Sequence[int], threads: int, advance: Advance) -> list[int]:
        time.sleep(0.3 if numbers[0] == 0 else 0)
        return [10 * numbers[0] + threads]

    finished: list[int] = []
    assert ray_of_two.map(task(slow_first), [0, 1, 2, 3], finished.append) == [1, 11, 21, 31]
    assert sorted(finished) == [0, 1, 2, 3]


@pytest.mark.slow
def test_ray_passes_on_what_a_task_raised(ray_of_two: Executor) -> None:
    def failing(numbers: Sequence[int], threads: int, advance: Advance) -> list[int]:
        raise InputError("slide.tif", "it is odd", "Make it even")

    with pytest.raises(InputError, match=r"^slide\.tif: it is odd\. Make it even$"):
        ray_of_two.map(task(failing), [1], lambda _: None)


@pytest.mark.slow
def test_an_item_that_kills_every_process_is_lost_and_the_rest_is_not(ray_of_two: Executor) -> None:
    def deadly(numbers: Sequence[int], threads: int, advance: Advance) -> list[int]:
        if numbers[0] == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return [numbers[0]]

    assert ray_of_two.map(task(deadly), [1, 2, 3], lambda _: None) == [1, -2, 3]


@pytest.mark.slow
def test_ray_has_no_gpu_here(ray_of_two: Executor) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    assert ray_of_two.device("auto") == "cpu"
    with pytest.raises(ConfigError, match="no machine of the Ray cluster has a GPU"):
        ray_of_two.device("cuda")


class Folder:
    """A repository with six slides, one of them bad, and an encoder of the user's own; what the stages make of them."""

    def __init__(self, root: Path, pause: float) -> None:
        self.root = root
        rows = []
        for i in range(SLIDES):
            write_slide(root / f"{i}.tif", tissue_pixels(640, 512, seed=i), levels=2)
            rows.append({"slide_id": f"s{i}", "patient_id": f"P{i}", "path": f"{i}.tif", "mpp": None})
        (root / f"{SLIDES - 1}.tif").write_bytes(b"not a slide")
        self.slides = pd.DataFrame(rows)
        (root / "encoders").mkdir()
        _encoder(pause).save(root / "mine.pt")  # type: ignore[no-untyped-call]
        facts = {"file": "mine.pt", "width": 12, "mpp": 0.5, "input_px": 64, "licence": "ours", "paper": "none"}
        (root / "encoders" / "mine.yaml").write_text("".join(f"{key}: {value}\n" for key, value in facts.items()))

    def run(self, executor: Executor) -> None:
        table = tile_cohort(self.slides, Path("tiles"), TILES, executor=executor)
        encode_cohort(table, Path("tiles"), Path("features"), TILES, EMBED, executor=executor)

    def made(self) -> dict[str, bytes]:
        folders = (self.root / "tiles", self.root / "features")
        files = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
        return {str(path.relative_to(self.root)): path.read_bytes() for path in files}


class Slow(nn.Module):
    """Four corners of a tile, after some thinking."""

    def __init__(self, rounds: int) -> None:
        super().__init__()
        self.rounds = rounds

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.zeros(200, 200)
        for _ in range(self.rounds):
            y = torch.mm(y, y)
        return nn.functional.adaptive_avg_pool2d(x, 2).flatten(1) + y[0, 0]


def _encoder(pause: float) -> torch.jit.ScriptModule:
    return torch.jit.script(Slow(int(pause * 2000)))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[float], Folder]:
    def made(pause: float = 0.0) -> Folder:
        monkeypatch.chdir(tmp_path)
        return Folder(tmp_path, pause)

    return made


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_ray_and_threads_make_the_same_bytes(folder: Callable[[], Folder], ray_of_two: Executor) -> None:
    repository = folder()
    repository.run(LocalExecutor())
    expected = repository.made()
    assert sum(name.startswith("features/mine/") for name in expected) == 2 * (SLIDES - 1)
    for name in ("tiles", "features", ".work"):
        shutil.rmtree(repository.root / name)
    repository.run(ray_of_two)
    assert repository.made() == expected


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_worker_killed_in_the_middle_loses_nothing(
    folder: Callable[[float], Folder], ray_of_two: Executor, caplog: pytest.LogCaptureFixture
) -> None:
    repository = folder(0.02)
    repository.run(LocalExecutor())
    expected = repository.made()
    for name in ("features", ".work/features"):
        shutil.rmtree(repository.root / name)
    killer = Killer(repository.root / ".work" / "features")
    killer.start()
    with caplog.at_level(logging.WARNING):
        repository.run(ray_of_two)
    killer.join()
    assert killer.killed, "no worker was busy to be killed"
    assert killer.before
    assert {name: stamp for name, stamp in _written(repository).items() if name in killer.before} == killer.before
    assert repository.made() == expected


class Killer(threading.Thread):
    """Ends one busy worker of Ray by SIGKILL once some features are finished and remembers which those were."""

    def __init__(self, finished: Path) -> None:
        super().__init__(daemon=True)
        self.finished, self.killed = finished, 0
        self.before: dict[str, int] = {}

    def run(self) -> None:
        for _ in range(3000):
            busy = [
                each for each in psutil.Process().children(recursive=True) if _name(each).startswith("ray::_run_alone")
            ]
            done = sorted(self.finished.rglob("s*.parquet"))
            if done and busy:
                self.before = {str(path): path.stat().st_mtime_ns for path in done}
                busy[0].send_signal(signal.SIGKILL)
                self.killed = busy[0].pid
                return
            time.sleep(0.02)


def _name(process: psutil.Process) -> str:
    try:
        return "".join(process.cmdline()[:1])
    except psutil.Error:
        return ""


def _written(repository: Folder) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in (repository.root / ".work" / "features").rglob("s*.parquet")}


@pytest.mark.slow
def test_a_cluster_that_is_gone_says_that_work_is_kept(ray_of_two: Executor, monkeypatch: pytest.MonkeyPatch) -> None:
    from ray import exceptions

    def gone(reference: object) -> object:
        raise exceptions.RaySystemError("the raylet is gone")

    monkeypatch.setattr(executors.import_ray(), "get", gone)
    with pytest.raises(DmlError, match="Finished slides are kept: run the stage again"):
        ray_of_two.map(task(), [1], lambda _: None)
