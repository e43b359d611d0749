"""Predict with a registered version using the source code stored in it; in a subprocess if it differs from this code.

A version thus predicts for as long as its packages can be installed, whatever has become of this package since.
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
from dml.inference.file_access import ANY_FILE, SERVED_ROOT, FileAccess
from dml.tracking import store

if TYPE_CHECKING:
    import pandas as pd

    from dml.registry.registered_version import RegisteredVersion

PredictFn = Callable[["pd.DataFrame", Mapping[str, Any]], "pd.DataFrame"]
"""Rows of slides and inference parameters to one row a patient."""
_PATHS = ("path", "expression")


@contextmanager
def load_with_packaged_code(
    version: "RegisteredVersion", access: FileAccess = ANY_FILE, warm: bool = False
) -> Iterator[PredictFn]:
    """Load a version; yields the function that predicts with it.

    Parameters
    ----------
    access : FileAccess
        Which files it reads; any by default.
    warm : bool
        Load its encoder at once, where its code is that of the working tree, and not for the first slide.

    Raises
    ------
    InputError
        If it cannot be loaded, or fails, even with its own code.
    """
    folder = download(version)
    if is_packaged_code_here(version):
        yield _load_here(folder, access, warm)
        return
    with _load_in_subprocess(folder, f"{version.name} version {version.version}", access) as predict:
        yield predict


def download(version: "RegisteredVersion") -> Path:
    """Return the folder of a version's files: of a local store itself, of a server a copy."""
    if version.folder is not None:
        return version.folder
    return store.download(f"models:/{version.name}/{version.version}")


def is_packaged_code_here(version: "RegisteredVersion") -> bool:
    """Whether a version was packed with the code of the working tree."""
    return code_digest(download(version) / "code" / "dml") == code_digest(Path(dml.__file__).parent)


def code_digest(package: Path) -> str:
    """Hash of the Python files of a package, names and content."""
    total = hashlib.blake2b(digest_size=16)
    for path in sorted(package.rglob("*.py")):
        total.update(path.relative_to(package).as_posix().encode() + b"\0")
        total.update(hashlib.blake2b(path.read_bytes()).digest())
    return total.hexdigest()


def _load_here(folder: Path, access: FileAccess, warm: bool) -> PredictFn:
    from dml.inference.ensemble import Ensemble
    from dml.inference.predictor import Predictor
    from dml.inference.similar_patients import read_bank

    folds = folder / "artifacts" / "folds"
    predictor = Predictor(Ensemble.load(folds), access, read_bank(folds))
    if warm:
        predictor.load_encoder()
    return lambda rows, params: predictor(rows, **params)


@contextmanager
def _load_in_subprocess(folder: Path, name: str, access: FileAccess) -> Iterator[PredictFn]:
    """Start a process with the packaged code; it ends with the block."""
    script = Path(__file__).with_name("packaged_process.py")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment[SERVED_ROOT] = str(access.root or "/")
    # -P: the folder of the script, which is part of the working tree, is not searched for modules
    command = [sys.executable, "-P", str(script), str(folder)]
    with (
        TemporaryFile("w+") as errors,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield _remote_predict(process.stdin, process.stdout, errors, name, access.root)
            process.stdin.close()
        finally:
            process.kill()


def _remote_predict(requests: IO[str], responses: IO[str], errors: IO[str], name: str, root: Path | None) -> PredictFn:
    def absolute(path: object) -> str:
        return str(((root or Path()) / str(path)).absolute())

    def predict(rows: "pd.DataFrame", params: Mapping[str, Any]) -> "pd.DataFrame":
        import pandas as pd

        paths = {column: rows[column].map(absolute, na_action="ignore") for column in _PATHS if column in rows.columns}
        request = {"rows": rows.assign(**paths).to_dict("records"), "params": dict(params)}
        try:
            requests.write(json.dumps(request) + "\n")
            requests.flush()
            response = responses.readline()
        except BrokenPipeError:
            response = ""
        if not response:
            raise InputError(name, f"its own code failed: {_last_line(errors)}", "Train and register it again")
        return pd.DataFrame(json.loads(response))

    return predict


def _last_line(errors: IO[str]) -> str:
    errors.seek(0)
    lines = [line.strip() for line in errors if line.strip()]
    return lines[-1] if lines else "the process exited without an error message"
