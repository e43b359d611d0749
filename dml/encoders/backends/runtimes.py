"""Encoders under ONNX Runtime or OpenVINO: the same network as under PyTorch, exported once, faster on a CPU.

Measured with EfficientNet-Lite0 on one core with AMX: 45 tiles/s under PyTorch, 104 under ONNX Runtime (cosine
1.0000), 83 under OpenVINO, 247 under OpenVINO in bfloat16 (cosine 0.994).
"""

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from torch import Tensor, nn

from dml.core.cache import cache_dir
from dml.core.errors import InputError, first_line
from dml.core.files import digest
from dml.encoders.backends.tile_encoder import TileEncoderRunner, resize_tiles
from dml.encoders.backends.weights import install_hint

RunTile = Callable[[UInt8[np.ndarray, "1 t t 3"]], NDArray[np.float32]]
"""From one tile to its token [1 d]."""

OPSET = 18
_MIN_COSINE = {"float32": 0.9999, "bfloat16": 0.98}
"""Least cosine of a trial tile's token to the one under PyTorch in float32."""
_TRIAL_TILES = 4


class ExportedEncoder:
    """A `TileEncoder` that runs an exported network, one tile at a time: a tile's token is the same in any batch.

    Attributes
    ----------
    cosine : float
        Lowest cosine between its tokens and PyTorch's, on the trial tiles.
    max_error : float
        Largest difference of a token's number to PyTorch's, on the trial tiles.
    """

    def __init__(self, run: RunTile, input_px: int) -> None:
        self._run, self._input_px = run, input_px
        self.cosine, self.max_error = 1.0, 0.0

    def __call__(self, tiles: UInt8[np.ndarray, "b t t 3"]) -> NDArray[np.float16]:
        """Encode tiles to float16 tokens [b d]."""
        sized = resize_tiles(tiles, self._input_px)
        return np.concatenate([self._run(sized[i : i + 1]) for i in range(len(sized))]).astype(np.float16)

    def compare(self, reference: TileEncoderRunner) -> None:
        """Measure how far its tokens are from those of PyTorch on tiles of noise, flat tiles and gradients."""
        tiles = _trial_tiles(self._input_px)
        ours, theirs = self(tiles).astype(np.float64), reference(tiles).astype(np.float64)
        lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
        self.cosine = float(((ours * theirs).sum(axis=1) / np.maximum(lengths, 1e-12)).min())
        self.max_error = float(np.abs(ours - theirs).max())


def export_encoder(
    encoder: TileEncoderRunner, name: str, weights: str, runtime: str, precision: str
) -> ExportedEncoder:
    """Run an encoder of PyTorch under another runtime; the export is kept in the cache.

    Parameters
    ----------
    encoder : TileEncoderRunner
        On a CPU, in float32.
    name, weights : str
        The encoder's name and the fingerprint of its weights.
    runtime : str
        ``onnxruntime`` or ``openvino``.
    precision : str
        ``float32``, or ``bfloat16`` under OpenVINO.

    Raises
    ------
    InputError
        If the runtime is not installed, the network cannot be exported, or its tokens differ from PyTorch's.
    """
    if encoder.input_px is None:
        raise _refusal(name, runtime, "it takes tiles of any size, and an export has one")
    file = _exported_file(encoder, name, weights)
    open_with = _open_onnxruntime if runtime == "onnxruntime" else _open_openvino
    exported = ExportedEncoder(open_with(file, name, precision), encoder.input_px)
    exported.compare(encoder)
    if not exported.cosine >= _MIN_COSINE[precision]:
        problem = (
            f"its tokens differ from PyTorch's: cosine {exported.cosine:.4f}, largest error {exported.max_error:.3g}"
        )
        raise _refusal(name, runtime, problem)
    return exported


def _trial_tiles(side: int) -> NDArray[np.uint8]:
    """Tiles that differ much: noise, a flat pink, two gradients."""
    ramp = np.linspace(0, 255, side, dtype=np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    flat = np.full((side, side, 3), (230, 160, 200), dtype=np.uint8)
    rows = np.broadcast_to(ramp[:, None, None], (side, side, 3))
    tiles = np.stack([noise, flat, rows, rows.transpose(1, 0, 2)])
    return np.ascontiguousarray(tiles[:_TRIAL_TILES])


class _WithNormalisation(nn.Module):
    """The network behind its normalisation: uint8 [1 t t 3] -> float32 [1 d]."""

    def __init__(self, encoder: TileEncoderRunner) -> None:
        super().__init__()
        self.encoder = encoder.network
        self.normalise = encoder.normalise

    def forward(self, tiles: UInt8[Tensor, "1 t t 3"]) -> Float[Tensor, "1 d"]:
        tokens: Tensor = self.encoder(self.normalise(tiles))
        return tokens.float()


def _exported_file(encoder: TileEncoderRunner, name: str, weights: str) -> Path:
    """Return the ONNX file of an encoder, exporting it unless the cache has it."""
    key = digest("onnx", name, weights, encoder.input_px, OPSET, torch.__version__)
    file = cache_dir("exports", key) / f"{name}.onnx"
    if file.exists():
        return file
    side = encoder.input_px
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        with torch.no_grad(), warnings.catch_warnings():
            # the newer exporter needs more packages; what tracing may get wrong, `compare` finds
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)  # type: ignore[attr-defined]
            warnings.filterwarnings("ignore", "Constant folding", UserWarning)
            torch.onnx.export(
                _WithNormalisation(encoder).eval(), (torch.zeros(1, side, side, 3, dtype=torch.uint8),), temporary,  # type: ignore[arg-type]
                input_names=["tiles"], output_names=["tokens"], opset_version=OPSET, dynamo=False,
            )  # fmt: skip
        temporary.replace(file)
    except ImportError as error:
        raise install_hint(name, "onnx", "onnx", error) from None
    except (RuntimeError, torch.onnx.OnnxExporterError) as error:
        raise _refusal(name, "onnxruntime", f"the network cannot be exported ({first_line(error)})") from error
    finally:
        temporary.unlink(missing_ok=True)
    return file


def _open_onnxruntime(file: Path, name: str, precision: str) -> RunTile:
    try:
        import onnxruntime as ort
    except ImportError as error:
        raise install_hint(name, "onnxruntime", "onnx", error) from None
    if precision != "float32":
        raise _refusal(name, "onnxruntime", "on a CPU it computes in float32 only")
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # parallel over tiles, not inside operators
    session = ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return lambda tile: np.asarray(session.run(None, {"tiles": tile})[0], np.float32)


def _open_openvino(file: Path, name: str, precision: str) -> RunTile:
    try:
        import openvino
    except ImportError as error:
        raise install_hint(name, "openvino", "openvino", error) from None
    hint = {"float32": "f32", "bfloat16": "bf16"}[precision]
    settings = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": hint}
    model: Any = openvino.Core().compile_model(str(file), "CPU", settings)
    # a request belongs to one thread: each call makes its own
    return lambda tile: np.array(model.create_infer_request().infer({0: tile})[model.output(0)], np.float32)


def _refusal(name: str, runtime: str, problem: str) -> InputError:
    return InputError(f"encoder {name} under {runtime}", problem, "Set embed.runtime to torch")
