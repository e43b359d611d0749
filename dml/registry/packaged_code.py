"""A registered version answers through the code it was packed with, whatever has become of the working tree since.

If that is the code of the working tree the model is loaded here; otherwise it answers in a process of its own, in which
the packed code is the only `dml`.
"""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Any

import dml
from dml.core.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from dml.registry.versions import Entry

Ask = Callable[["pd.DataFrame", Mapping[str, Any]], "pd.DataFrame"]
"""Rows of slides and inference parameters to one row a patient."""


@contextmanager
def opened(entry: "Entry") -> Iterator[Ask]:
    """Open a version for questions.

    Raises
    ------
    InputError
        If it cannot be loaded, or fails, even by its own code.
    """
    from mlflow.artifacts import download_artifacts

    folder = Path(download_artifacts(f"models:/{entry.name}/{entry.version}"))
    if code_digest(folder / "code" / "dml") == code_digest(Path(dml.__file__).parent):
        yield _here(entry)
        return
    with _process(folder, f"{entry.name} version {entry.version}") as ask:
        yield ask


def code_digest(package: Path) -> str:
    """Hash of the Python files of a package, names and content."""
    total = hashlib.blake2b(digest_size=16)
    for path in sorted(package.rglob("*.py")):
        total.update(path.relative_to(package).as_posix().encode() + b"\0")
        total.update(hashlib.blake2b(path.read_bytes()).digest())
    return total.hexdigest()


def _here(entry: "Entry") -> Ask:
    from dml.registry import versions as registry

    model: Any = registry.load(entry.name, entry.version)

    def ask(rows: "pd.DataFrame", params: Mapping[str, Any]) -> "pd.DataFrame":
        said: pd.DataFrame = model.predict(rows, params=dict(params) or None)
        return said

    return ask


@contextmanager
def _process(folder: Path, what: str) -> Iterator[Ask]:
    """Start a process with the packed code; it ends with the block."""
    script = Path(__file__).with_name("packed_process.py")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    # -P: the folder of the script, which is part of the working tree, is not searched for modules
    command = [sys.executable, "-P", str(script), str(folder)]
    with (
        TemporaryFile("w+") as complaints,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=complaints, text=True, env=environment
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield _asking(process.stdin, process.stdout, complaints, what)
            process.stdin.close()
        finally:
            process.kill()


def _asking(questions: IO[str], answers: IO[str], complaints: IO[str], what: str) -> Ask:
    def ask(rows: "pd.DataFrame", params: Mapping[str, Any]) -> "pd.DataFrame":
        import pandas as pd

        try:
            questions.write(json.dumps({"rows": rows.to_dict("records"), "params": dict(params)}) + "\n")
            questions.flush()
            answer = answers.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise InputError(what, f"its own code failed: {_last_line(complaints)}", "Train and register it again")
        return pd.DataFrame(json.loads(answer))

    return ask


def _last_line(complaints: IO[str]) -> str:
    complaints.seek(0)
    lines = [line.strip() for line in complaints if line.strip()]
    return lines[-1] if lines else "it ended without a word"
