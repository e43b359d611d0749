"""The whole way from slides to the registry as a user runs it, undisturbed and killed."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from dml.core.dvc_lock import WHOLE_LOCK
from tests.conftest import SEED
from tests.pipelines.conftest import Workplace
from tests.pipelines.test_dvc_yaml import CLEAN, TOUCHED

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("small_demo")]  # they share a finished pipeline

METRICS = "reports/demo/survival/metrics.json"


@pytest.fixture
def finished(finished_demo: Workplace) -> Workplace:
    return finished_demo


def test_every_model_is_measured_with_an_interval(finished: Workplace) -> None:
    metrics = json.loads(finished.read(METRICS))
    expected = {"teacher", "student", "student_undistilled", "linear_slide", "linear_genes"}
    assert expected <= set(metrics)
    for model in expected:
        c_index = metrics[model]["c_index"]
        assert 0 <= c_index["ci_low"] <= c_index["value"] <= c_index["ci_high"] <= 1
        assert len(c_index["folds"]) == 2


def test_a_second_repro_does_nothing(finished: Workplace) -> None:
    before = finished.read("dvc.lock")
    said = finished.run("dvc", "repro").stdout
    assert "up to date" in said
    assert "Running stage" not in said
    assert finished.read("dvc.lock") == before


def test_touching_what_does_not_decide_a_result_leaves_its_stage_clean(finished: Workplace) -> None:
    files = (*TOUCHED, "dml/report/templates/report.html")
    before = {name: finished.read(name) for name in files}
    try:
        for name, content in before.items():
            (finished.folder / name).write_bytes(content + b"\n")
        stale = json.loads(finished.run("dvc", "status", "--json").stdout)
    finally:
        for name, content in before.items():
            (finished.folder / name).write_bytes(content)
    assert "evaluate@survival" in stale, "the report is written again"
    assert [name for name in stale if name.split("@")[0] in CLEAN] == []


def test_the_same_commit_and_data_give_the_same_bytes(finished: Workplace) -> None:
    name = "models/demo/survival/student/fold-0/predictions.parquet"
    metrics, predictions = finished.read(METRICS), finished.read(name)
    finished.run("dvc", "repro", "--force", "--no-run-cache")
    assert finished.read(METRICS) == metrics
    assert finished.read(name) == predictions


def test_registered_models_answer_for_slides_and_for_features(finished: Workplace) -> None:
    slide = sorted((finished.folder / "data/raw/demo/slides").iterdir())[0]
    features = sorted((finished.folder / "data/demo/features").glob(f"*/*/{slide.stem}.parquet"))
    answers = []
    for source in (slide, features[0].parent.parent):
        out = finished.folder / "answer.json"
        asked = ("--model", "demo-survival-student@challenger", "--slides", str(source), "--out", str(out))
        finished.run("dml", "predict", *asked)
        answers.append(json.loads(out.read_text()))
    assert all(answers)


def test_similar_patients_and_the_page_come_from_the_registered_version(finished: Workplace) -> None:
    slide = sorted((finished.folder / "data/raw/demo/slides").iterdir())[0]
    model = ("--model", "demo-survival-student@challenger", "--slides", str(slide), "--cohort", "demo")
    (answer,) = json.loads(finished.run("dml", "similar", *model, "-k", "3", "--json").stdout)
    assert answer["similar"]["excluded"]["patient"] == 1
    assert len(answer["similar"]["spaces"]["tumor"]["neighbours"]) == 3
    finished.run("dml", "report-patient", *model, "-o", "page.html")
    assert b"A learning patient of this model" in finished.read("page.html")


def test_killed_anywhere_it_finishes_with_the_same_metrics(finished: Workplace, tmp_path: Path) -> None:
    """kill -9 at random moments, over and over.

    What is whole is kept, and the numbers are those of an undisturbed run.
    """
    place = Workplace(tmp_path / "repo")
    place.folder.mkdir()
    generated = ("data", "models", "reports", "mlruns", ".work", "dvc.lock")
    for path in (p for p in finished.folder.iterdir() if p.name not in generated):
        (shutil.copytree if path.is_dir() else shutil.copy)(path, place.folder / path.name)
    shutil.rmtree(place.folder / ".dvc" / "cache", ignore_errors=True)
    shutil.copytree(finished.folder / "data/raw", place.folder / "data/raw")
    draw = random.Random(SEED)
    for _ in range(6):
        running = place.start("dvc", "repro")
        time.sleep(draw.uniform(4, 25))
        orphans = _descendants(running.pid)
        os.kill(running.pid, signal.SIGKILL)
        if draw.random() < 0.5:  # sometimes the stage itself dies too, sometimes it goes on as an orphan
            for pid in orphans:
                _kill(pid)
        running.wait()
        mend_lock(place.folder)
    place.run("dvc", "repro")
    assert place.read(METRICS) == finished.read(METRICS)
    left = [p for p in place.folder.rglob("*.tmp") if ".dvc" not in p.parts and ".work" not in p.parts]
    assert left == []


def mend_lock(folder: Path) -> None:
    """Put back the last whole lock, as `dml doctor` says, where DVC was killed while it wrote its own."""
    lock, whole = folder / "dvc.lock", folder / WHOLE_LOCK
    if whole.exists():
        assert yaml.safe_load(whole.read_text())["schema"], "the copy is always whole"
    if lock.exists() and not _is_whole(lock):
        sys.stdout.write("killed while DVC wrote dvc.lock\n")
        shutil.copy(whole, lock)


def _is_whole(lock: Path) -> bool:
    try:
        return bool(yaml.safe_load(lock.read_text()))
    except yaml.YAMLError:
        return False


def _descendants(pid: int) -> list[int]:
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    children = [int(child) for child in listed.stdout.split()]
    return children + [grandchild for child in children for grandchild in _descendants(child)]


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        sys.stderr.write(f"{pid} had already ended\n")
