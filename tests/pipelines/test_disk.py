"""What a stage writes is on disk once: the work folder, the output and DVC's cache are names of one file."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STAGE = """stages:
  embed:
    cmd: python embed.py
    deps: [embed.py]
    outs: [features]
"""
WORK = """from pathlib import Path
from dml.core.cache import hardlink
finished = Path(".work/bag")
if not finished.exists():
    finished.parent.mkdir()
    finished.write_bytes(bytes(range(256)) * 4096)
hardlink(finished, Path("features/bag"))
"""


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:/usr/bin:/bin")
    for command in (["git", "init", "-q"], ["dvc", "init", "-q"]):
        subprocess.run(command, check=True, capture_output=True)
    shutil.copy(ROOT / ".dvc/config", ".dvc/config")
    Path("dvc.yaml").write_text(STAGE)
    Path("embed.py").write_text(WORK)
    return tmp_path


def test_features_are_on_disk_once_also_when_the_stage_runs_again(repository: Path) -> None:
    for _ in range(2):
        subprocess.run(["dvc", "repro", "-q", "-f"], check=True, capture_output=True)
        copies = [path for path in repository.rglob("*") if path.is_file() and path.stat().st_size == 256 * 4096]
        assert len(copies) == 3, "in the work folder, the output and the cache"
        assert len({path.stat().st_ino for path in copies}) == 1, "three names of one file"
        assert copies[0].stat().st_mode & 0o222 == 0, "nobody writes into the cache by a name of the output"
