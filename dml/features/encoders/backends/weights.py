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
from dml.features.fingerprint import slide_fingerprint

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
        Whether access has to be asked for on that page.
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
        there = [folder / name for folder in folders for name in self.files if (folder / name).is_file()]
        found = there[0] if there else _cached(self.repository, self.files)
        if found is None:
            places = " and ".join(str(folder) for folder in folders)
            raise InputError(
                f"encoder {self.encoder}", f"no {' or '.join(self.files)} in {places}", self._how(folders[0])
            )
        return found

    def fingerprint(self) -> str:
        """Fingerprint the weights without reading all of them."""
        return _fingerprint(self.find())

    def state(self) -> Mapping[str, Any]:
        """Read the tensors by name; nothing that could run code is loaded."""
        path = self.find()
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state: Mapping[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        return state

    def _how(self, folder: Path) -> str:
        asked = "These weights are gated: ask for access on that page and log in (hf auth login), then run" * self.gated
        run = f"hf download {self.repository} --local-dir {folder}"
        return f"They are {self.repository} on the Hugging Face Hub. {asked or 'Run'}: {run}; or copy them there"


def install_hint(encoder: str, package: str, extra: str, error: ImportError | RuntimeError) -> InputError:
    """Say that an optional package is missing, or does not fit the installed torch."""
    found = f"it needs the package {package}, which cannot be imported ({str(error).splitlines()[0]})"
    remedy = f"Run: pip install -e '.[{extra}]' -c constraints.txt (torchvision must be built for the same torch)"
    return InputError(f"encoder {encoder}", found, remedy)


def _cached(repository: str, files: Sequence[str]) -> Path | None:
    if find_spec("huggingface_hub") is None:
        return None
    from huggingface_hub import try_to_load_from_cache

    found = [try_to_load_from_cache(repository, name) for name in files]
    return next((Path(path) for path in found if isinstance(path, str)), None)


@cache
def _fingerprint(path: Path) -> str:
    return slide_fingerprint(path)
