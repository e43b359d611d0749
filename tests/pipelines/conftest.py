"""A copy of this repository in a temporary folder with a small generated cohort: the pipeline as a user runs it."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.tracking_fixtures import client, template_store, workplace

__all__ = ["client", "template_store", "workplace"]

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Workplace:
    """A folder in which commands of the README run."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        bin_folder = str(Path(sys.executable).parent)
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "DVC_", "PYTEST_"))}
        # its own code is run, whatever happens to this tree meanwhile
        own = {"PATH": f"{bin_folder}:{os.environ['PATH']}", "PYTHONPATH": str(self.folder)}
        return {**inherited, **own, "MLFLOW_DISABLE_TELEMETRY": "true"}

    def run(self, *command: str, ok: bool = True, timeout: float = 3600) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=timeout, check=False
        )
        if ok:
            assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return done

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def set(self, section: str, **values: object) -> None:
        """Change values in params.yaml as a user would."""
        from ruamel.yaml import YAML

        yaml, path = YAML(), self.folder / "params.yaml"
        content = yaml.load(path)
        (content[section] if section else content).update(values)
        yaml.dump(content, path)

    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()


def copy_of_the_repository(folder: Path) -> Workplace:
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file() and name != "dvc.lock":
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    place = Workplace(folder)
    place.run("git", "init", "-q")
    return place


def commit(place: Workplace, message: str) -> None:
    place.run("git", "add", "--all")
    place.run("git", "-c", "user.name=test", "-c", "user.email=test@localhost", "commit", "-q", "-m", message)


@pytest.fixture(scope="session")
def small_demo(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A copy with 30 small generated patients and short training; nothing has run yet."""
    place = copy_of_the_repository(tmp_path_factory.mktemp("demo") / "repo")
    place.set("", tasks=["survival"], folds=[0, 1])
    place.set("optimisation", epochs=3, ensemble_size=2)
    place.set("evaluation", resamples=200)
    place.set("checks", min_patients=10, min_class_size=2)
    place.run("dml", "cohort", "demo", "--patients", "30", "--slide-px", "1024")
    return place


@pytest.fixture(scope="session")
def finished_demo(small_demo: Workplace) -> Workplace:
    """The small demo after ``dvc repro``; whoever changes something in it works on a copy."""
    small_demo.run("dvc", "repro")
    return small_demo
