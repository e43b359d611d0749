"""Spoiled files of every kind: a named refusal or a result, never a traceback, a hang, or memory without end.

``make fuzz`` runs 10,000 cases; `DML_FUZZ_CASES` and `DML_TEST_SEED` set number and seed.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import SEED
from tests.fuzz.targets import GROUPS

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
READERS = sum(len(group) for group in GROUPS.values())
CASES = max(1, round(int(os.environ.get("DML_FUZZ_CASES", 24 * READERS)) / READERS))
"""Cases of each reader."""
MAX_BYTES = 2 * 2**30


@pytest.mark.parametrize("group", GROUPS)
def test_spoiled_files_are_read_or_refused_by_name(group: str, tmp_path: Path) -> None:
    work = tmp_path / "fuzz"
    command = [sys.executable, "-m", "tests.fuzz.worker", group, str(CASES), str(SEED), str(work)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=120 + 2 * CASES * len(GROUPS[group]), check=False
    )
    where = f"seed {SEED}, files below {work}"
    assert done.returncode == 0, f"{where}: the process ended with {done.returncode}\n{done.stderr[-4000:]}"
    result = json.loads(done.stdout.splitlines()[-1])
    broken = {name: reader["broken"] for name, reader in result["readers"].items() if reader["broken"]}
    assert not broken, f"{where}\n" + "\n".join(problem for problems in broken.values() for problem in problems)
    assert result["peak_bytes"] < MAX_BYTES, where
    for name, reader in result["readers"].items():
        assert reader["read"] + reader["refused"] >= CASES // 2, (name, reader)
    sys.stdout.write(f"{where}: {json.dumps(result)}\n")
