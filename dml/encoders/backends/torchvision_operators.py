"""Let timm and transformers import the torchvision of PyPI beside any build of the same torch.

PyPI's wheel for Linux is compiled for the torch with CUDA. Beside the CPU build its operators (for object detection)
cannot be loaded, and `import torchvision` fails since it describes their shapes. No encoder calls them: declaring their
names is enough, and a call of one is an error.
"""

import re
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import torch


@cache
def declare_operators() -> torch.library.Library | None:
    """Declare the operators of torchvision, if it is installed and its binary does not fit the installed torch."""
    spec = find_spec("torchvision")
    if spec is None or spec.origin is None or "torchvision" in sys.modules:
        return None
    folder = Path(spec.origin).parent
    if any(_loads(binary) for binary in folder.glob("_C.*")):
        return None
    described = (folder / "_meta_registrations.py").read_text()
    library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for name in re.findall(r'register_fake\("torchvision::(\w+)"\)', described):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")  # type: ignore[no-untyped-call]
    return library


def _loads(binary: Path) -> bool:
    try:
        torch.ops.load_library(str(binary))  # type: ignore[no-untyped-call]
    except (OSError, RuntimeError):
        return False
    return True
