"""Where the weights of an encoder are: a local folder, or the cache of the hub client. Nothing is ever downloaded here.

Looked for in this order: ``$DML_WEIGHTS/<encoder>/``, ``data/weights/<encoder>/``, and, if the package huggingface_hub
is installed, its cache (files that ``hf download`` left there).
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from dml.core.errors import InputError
from dml.slides.slide_fingerprint import slide_fingerprint

FOLDER = Path("data/weights")
VARIABLE = "DML_WEIGHTS"


@dataclass(frozen=True, slots=True)
class Weights:
    """The published weights of an encoder.

    Attributes
    ----------
    encoder : str
        Its name, and that of the folder.
    repository : str
        Where its authors publish it on the Hugging Face Hub.
    files : tuple of str
        Names under which the weights may lie; the first that is there counts.
    gated : bool
        Whether its authors grant access on request only.
    """

    encoder: str
    repository: str
    files: tuple[str, ...] = ("model.safetensors", "pytorch_model.bin")
    gated: bool = False

    def find(self) -> Path:
        """Return the file.

        Raises
        ------
        InputError
            If it is nowhere; the message says how to get it.
        """
        folders = [Path(os.environ[VARIABLE]) / self.encoder] if os.environ.get(VARIABLE) else []
        folders.append(FOLDER / self.encoder)
        files = [folder / name for folder in folders for name in self.files if (folder / name).is_file()]
        path = files[0] if files else _find_in_cache(self.repository, self.files)
        if path is None:
            problem = f"no {' or '.join(self.files)} in {' and '.join(str(folder) for folder in folders)}"
            raise InputError(f"encoder {self.encoder}", problem, self._how(folders[0]))
        return path

    def fingerprint(self) -> str:
        """Fingerprint the weights without reading all of them."""
        return _fingerprint(self.find())

    def state(self) -> Mapping[str, Any]:
        """Read the tensors by name; nothing that could run code is loaded.

        Raises
        ------
        InputError
            If the file is missing, was downloaded in part, or holds something else.
        """
        path = self.find()
        self.check(path)
        try:
            if path.suffix == ".safetensors":
                from safetensors.torch import load_file

                return load_file(path)
            state: Any = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            problem = (
                f"not readable weights, {path.stat().st_size} bytes: in part downloaded, or pickled? ({reason[:150]})"
            )
            raise InputError(path, problem, f"Fetch {self.repository} again") from error
        if not isinstance(state, Mapping):
            raise InputError(path, f"holds a {type(state).__name__}, not tensors by name", "Save its state_dict()")
        return state

    def check(self, path: Path) -> None:
        """Refuse a file that is no weights at all.

        Raises
        ------
        InputError
            If it is empty, a pointer of Git LFS, or a page of a web site.
        """
        if problem := placeholder_problem(path):
            raise InputError(path, problem, self._how(path.parent))

    def _how(self, folder: Path) -> str:
        gated = "These weights are gated: ask for access on that page and log in (hf auth login), then run" * self.gated
        run = f"hf download {self.repository} --local-dir {folder}"
        return f"They are {self.repository} on the Hugging Face Hub. {gated or 'Run'}: {run}; or copy them there"


def placeholder_problem(path: Path) -> str:
    """Return what a file is that stands for another one and is not it; '' if it is none."""
    with path.open("rb") as file:
        start = file.read(64).lstrip().lower()
    if not start:
        return "the file is empty (0 bytes)"
    if start.startswith(b"version https://git-lfs"):
        return (
            f"a pointer of Git LFS ({path.stat().st_size} bytes), not the file it stands for; git lfs pull fetches it"
        )
    return "a page of a web site, not weights" if start.startswith((b"<!doctype", b"<html")) else ""


def install_hint(encoder: str, package: str, extra: str, error: ImportError | RuntimeError) -> InputError:
    """Say that an optional package is missing, or does not fit the installed torch."""
    problem = f"it needs the package {package}, which cannot be imported ({str(error).splitlines()[0]})"
    return InputError(f"encoder {encoder}", problem, f"Run: pip install -e '.[{extra}]' -c constraints.txt")


def _find_in_cache(repository: str, files: Sequence[str]) -> Path | None:
    if find_spec("huggingface_hub") is None:
        return None
    from huggingface_hub import try_to_load_from_cache

    paths = [try_to_load_from_cache(repository, name) for name in files]
    return next((Path(path) for path in paths if isinstance(path, str)), None)


@cache
def _fingerprint(path: Path) -> str:
    return slide_fingerprint(path)
