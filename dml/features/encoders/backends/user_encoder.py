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
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from jaxtyping import UInt8
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt

from dml.config.base import Section, parse
from dml.core.errors import ConfigError, InputError
from dml.features.encoders.backends.tile_encoder import TileEncoderRunner, resized
from dml.features.encoders.backends.weights import install_hint
from dml.features.encoders.card import IMAGENET_MEAN, IMAGENET_STD, EncoderCard, TileEncoder
from dml.features.fingerprint import slide_fingerprint

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
    try:
        content = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML: {error}") from None
    spec: UserEncoder = parse(UserEncoder, content, str(path))
    if spec.file.suffix not in TORCHSCRIPT + ONNX:
        raise ConfigError(f"{path}: file: {spec.file} must end in {', '.join(TORCHSCRIPT + ONNX)}")

    def load(device: str, precision: str) -> TileEncoder:
        if not spec.file.is_file():
            raise InputError(spec.file, "the file does not exist", f"Put it there or correct `file` in {path}")
        if spec.file.suffix in ONNX:
            return OnnxEncoder(path.stem, spec, device)
        return _torchscript(spec, device, precision)

    return EncoderCard(
        path.stem, spec.width, spec.mpp, spec.input_px, spec.mean, spec.std, spec.licence, spec.paper,
        load_with=load, hash_with=lambda: slide_fingerprint(spec.file),
        requirements=("onnxruntime",) if spec.file.suffix in ONNX else (),
    )  # fmt: skip


def _problems(ort: Any) -> tuple[type[Exception], ...]:
    """Return the errors of onnxruntime, which have no base of their own."""
    state = ort.capi.onnxruntime_pybind11_state
    names = ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoSuchFile", "NotImplemented")
    return tuple(getattr(state, name) for name in names)


def _torchscript(spec: UserEncoder, device: str, precision: str) -> TileEncoder:
    import warnings

    import torch

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*torch.jit", DeprecationWarning)  # the format is old, and users have it
        try:
            network = torch.jit.load(spec.file, map_location="cpu")  # type: ignore[no-untyped-call]
        except (RuntimeError, ValueError) as error:
            found = f"not a TorchScript file ({str(error).splitlines()[0][:200]})"
            raise InputError(spec.file, found, "Save it with torch.jit.save") from None
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
        except _problems(ort) as error:
            found = f"not an ONNX file that onnxruntime can run ({str(error).splitlines()[0][:200]})"
            raise InputError(spec.file, found, "Export it again") from None
        self._spec, self._lock = spec, threading.Lock()
        self._input: Any = self._session.get_inputs()[0].name
        self._mean = np.asarray(spec.mean, np.float32) * 255
        self._std = np.asarray(spec.std, np.float32) * 255

    def __call__(self, tiles: UInt8[np.ndarray, "b t t 3"]) -> NDArray[np.float16]:
        """Encode tiles to float16 tokens [b d]."""
        sized = resized(tiles, self._spec.input_px)
        tokens = [self._one(sized[i : i + 1]) for i in range(len(sized))]
        return np.concatenate(tokens).astype(np.float16)

    def _one(self, tile: UInt8[np.ndarray, "1 t t 3"]) -> NDArray[np.float32]:
        pixels = ((tile.astype(np.float32) - self._mean) / self._std).transpose(0, 3, 1, 2)
        found = np.asarray(self._session.run(None, {self._input: np.ascontiguousarray(pixels)})[0], np.float32)
        return found.reshape(1, -1)
