"""A user's own encoder: a TorchScript or ONNX file, described by ``encoders/<name>.yaml``.

The file takes normalised pixels, float32 [b 3 t t], and returns one vector a tile, [b d]::

    file: data/weights/mine.onnx      # or .pt, .ts (TorchScript); relative to the root of the repository
    width: 768
    mpp: 0.5                          # microns per pixel it was trained at
    input_px: 224                     # side of the tiles it takes
    mean: [0.485, 0.456, 0.406]
    std: [0.229, 0.224, 0.225]
    licence: ours
    paper: unpublished
"""

import threading
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt

from dml.config.base import Section, parse
from dml.core.errors import ConfigError, InputError, first_line, refuse_unreadable
from dml.core.yaml_files import read_yaml
from dml.encoders.backends.tile_encoder import TileEncoderRunner, resize_tiles
from dml.encoders.backends.weights import install_hint, placeholder_problem
from dml.encoders.card import IMAGENET_MEAN, IMAGENET_STD, EncoderCard, TileEncoder
from dml.slides.slide_fingerprint import slide_fingerprint

TORCHSCRIPT, ONNX = (".pt", ".ts"), (".onnx",)


class UserEncoder(Section):
    """What ``encoders/<name>.yaml`` says."""

    file: Path
    width: PositiveInt
    mpp: PositiveFloat
    input_px: PositiveInt
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[PositiveFloat, PositiveFloat, PositiveFloat] = IMAGENET_STD
    licence: str = Field(min_length=1)
    paper: str = Field(min_length=1)


def user_encoder_card(path: Path) -> EncoderCard:
    """Read a description.

    Raises
    ------
    ConfigError
        If it is not as `UserEncoder` says, or the file is neither TorchScript nor ONNX.
    """
    spec: UserEncoder = parse(UserEncoder, read_yaml(path), str(path))
    if spec.file.suffix not in TORCHSCRIPT + ONNX:
        raise ConfigError(f"{path}: file: {spec.file} must end in {', '.join(TORCHSCRIPT + ONNX)}")
    if not spec.file.is_file() and (path.parent / spec.file).is_file():
        spec = spec.model_copy(update={"file": path.parent / spec.file})

    def load(device: str, precision: str) -> TileEncoder:
        if not spec.file.is_file():
            raise InputError(spec.file, "the file does not exist", f"Put it there or correct `file` in {path}")
        if problem := placeholder_problem(spec.file):
            raise InputError(spec.file, problem, "Copy the file itself")
        if spec.file.suffix in ONNX:
            return OnnxEncoder(path.stem, spec, device)
        return _load_torchscript(spec, device, precision)

    return EncoderCard(
        path.stem, spec.width, spec.mpp, spec.input_px, spec.mean, spec.std, spec.licence, spec.paper,
        load_with=load, hash_with=lambda: slide_fingerprint(spec.file),
        requirements=("onnxruntime",) if spec.file.suffix in ONNX else (), source=f"{path}, {spec.file}",
    )  # fmt: skip


def _load_torchscript(spec: UserEncoder, device: str, precision: str) -> TileEncoder:
    import warnings

    import torch

    if zipfile.is_zipfile(spec.file):
        with refuse_unreadable(spec.file), zipfile.ZipFile(spec.file) as archive:
            names = [Path(name).name for name in archive.namelist()]
        if "data.pkl" in names and "constants.pkl" not in names:
            problem = "a pickled PyTorch module (torch.save), which could run any code"
            remedy = "Save it with torch.jit.save(torch.jit.trace(model.eval(), example), path)"
            raise InputError(spec.file, problem, remedy)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*torch.jit", DeprecationWarning)  # the format is old, and users have it
        try:
            network = torch.jit.load(spec.file, map_location="cpu")  # type: ignore[no-untyped-call]
        except Exception as error:
            problem = f"not a TorchScript file, or only a part of one ({first_line(error)})"
            raise InputError(spec.file, problem, "Copy it again, or save it with torch.jit.save") from error
    return TileEncoderRunner(network, spec.mean, spec.std, spec.input_px, device, precision)


class OnnxEncoder:
    """Run an ONNX file with onnxruntime; tiles go through one at a time on a CPU, so batches do not change bits."""

    def __init__(self, name: str, spec: UserEncoder, device: str) -> None:
        try:
            import onnxruntime as ort
        except ImportError as error:
            raise install_hint(name, "onnxruntime", "onnx", error) from None
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1  # parallel over tiles, not inside operators
        wanted = "CUDAExecutionProvider" if device.startswith("cuda") else "CPUExecutionProvider"
        if wanted not in ort.get_available_providers():
            raise InputError(
                f"encoder {name}", "this onnxruntime has no CUDA", "Install onnxruntime-gpu, or device: cpu"
            )
        try:
            self._session = ort.InferenceSession(str(spec.file), options, providers=[wanted])
        except Exception as error:  # those of onnxruntime have no base of their own
            problem = f"not an ONNX file that onnxruntime can run ({first_line(error)})"
            raise InputError(spec.file, problem, "Export it again") from error
        self._spec, self._lock = spec, threading.Lock()
        self._input: Any = self._session.get_inputs()[0].name
        self._mean = np.asarray(spec.mean, np.float32) * 255
        self._std = np.asarray(spec.std, np.float32) * 255

    def __call__(self, tiles: UInt8[np.ndarray, "b t t 3"]) -> NDArray[np.float16]:
        """Encode tiles to float16 tokens [b d]."""
        sized = resize_tiles(tiles, self._spec.input_px)
        tokens = [self._one(sized[i : i + 1]) for i in range(len(sized))]
        return np.concatenate(tokens).astype(np.float16)

    def _one(self, tile: UInt8[np.ndarray, "1 t t 3"]) -> NDArray[np.float32]:
        pixels = ((tile.astype(np.float32) - self._mean) / self._std).transpose(0, 3, 1, 2)
        outputs = self._session.run(None, {self._input: np.ascontiguousarray(pixels)})
        if len(outputs) != 1:
            raise TypeError(f"it returns {len(outputs)} outputs, not one tensor")
        return np.asarray(outputs[0], np.float32).reshape(1, -1)
