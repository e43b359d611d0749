"""`EncoderCard`: what a tile encoder is, expects and needs; `TileEncoder`: the function it loads."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from dml.core.errors import DmlError, InputError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@runtime_checkable
class TileEncoder(Protocol):
    """Turn uint8 tiles [b h w 3] into float16 tokens [b d]; a tile's token does not depend on its neighbours."""

    def __call__(self, tiles: NDArray[np.uint8]) -> NDArray[np.float16]:
        """Encode some tiles."""
        ...


@dataclass(frozen=True, slots=True)
class EncoderCard:
    """A tile encoder.

    Attributes
    ----------
    name : str
        As in params.yaml; also the name of the folder with its features.
    width : int
        Length of a token.
    mpp : float
        Microns per pixel it was trained at (ImageNet encoders: the resolution commonly used).
    input_px : int or None
        Side of the tiles it takes, others are resampled to it; None = any.
    mean, std : tuple of float
        Normalisation of channels in 0..1.
    licence, paper : str
        Terms of use, and the publication that describes it.
    gated : bool
        Whether its authors grant access to the weights on request only.
    load_with : callable or None
        (device, precision) -> TileEncoder. None = features are only imported.
    hash_with : callable or None
        Fingerprint of the weights.
    exportable : bool
        Whether what it loads is a `TileEncoderRunner` whose network other runtimes can run (``embed.runtime``).
    requirements : tuple of str
        Packages on PyPI, beyond those of a slide reader, that encoding with it needs; a packed model lists them.
    aliases : tuple of str
        Its names in other tools; case and punctuation do not matter.
    trained_on : frozenset of str
        Patients and sections whose expression an adapter was trained on: they cannot test a model.
    source : str
        The file that a user described it in and with, for messages.
    """

    name: str
    width: int
    mpp: float
    input_px: int | None
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    licence: str
    paper: str
    gated: bool = False
    load_with: Callable[[str, str], TileEncoder] | None = None
    hash_with: Callable[[], str] | None = None
    exportable: bool = False
    requirements: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    source: str = ""
    trained_on: frozenset[str] = frozenset()

    @property
    def import_only(self) -> bool:
        """Whether features of this encoder are imported and never computed here."""
        return self.load_with is None

    def runtime(self, wanted: str, device: str, precision: str) -> str:
        """Return what runs the encoder: ``torch``, ``onnxruntime`` or ``openvino``.

        ``auto`` is ONNX Runtime on a CPU in float32 where the network can be exported, else PyTorch.

        Raises
        ------
        InputError
            If the wanted runtime cannot run it.
        """
        if wanted == "auto":
            return "onnxruntime" if self.exportable and device == "cpu" and precision == "float32" else "torch"
        if wanted == "torch" or (self.exportable and device == "cpu"):
            return wanted
        what = "on a CPU only" if self.exportable else "no such network"
        problem = f"embed.runtime is {wanted}, which runs {what}"
        raise InputError(self._where, problem, "Set embed.runtime to auto or torch")

    def runtime_requirements(self, wanted: str) -> tuple[str, ...]:
        """Return the packages on PyPI that a runtime needs on a CPU; none for PyTorch."""
        if wanted == "torch" or not self.exportable:
            return ()
        return ("onnx", "onnxruntime" if wanted == "auto" else wanted)

    def load(self, device: str = "cpu", precision: str = "float32") -> TileEncoder:
        """Load the weights and encode a trial tile, so that an encoder that cannot fails before the first slide.

        Raises
        ------
        InputError
            If this encoder cannot encode tiles here, or gives something else than its card says.
        """
        if self.load_with is None:
            problem = "it cannot encode tiles: only features extracted elsewhere are read"
            raise InputError(f"encoder {self.name}", problem, "Set embed.source to import, or choose another encoder")
        encoder = self.load_with(device, precision)
        self._try(encoder)
        return encoder

    def weights_hash(self) -> str:
        """Return a fingerprint of the weights; ``imported`` where they are not here."""
        return "imported" if self.hash_with is None else self.hash_with()

    def _try(self, encoder: TileEncoder) -> None:
        side = self.input_px or 256
        tile = np.random.default_rng(0).integers(0, 256, (1, side, side, 3), dtype=np.uint8)
        what = "it takes tiles [b, 3, side, side] and returns one tensor [b, width]"
        remedy = f"Correct input_px and width in its description, or export it so that {what}"
        try:
            tokens: Any = encoder(tile)
        except DmlError:
            raise
        except Exception as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            problem = f"it fails on a tile of {side} x {side} pixels ({_cause(lines)[:200]})"
            raise InputError(self._where, problem, remedy) from error
        shape = tuple(np.shape(tokens))
        if shape != (1, self.width):
            problem = f"for one tile it gives an array of shape {shape}, not (1, {self.width})"
            raise InputError(self._where, problem, remedy)
        if not np.isfinite(np.asarray(tokens, np.float64)).all():
            problem = "for a tile of noise it gives NaN or infinite numbers"
            raise InputError(self._where, problem, "Set embed.precision to float32, or export it again")

    @property
    def _where(self) -> str:
        return f"encoder {self.name}" + (f" ({self.source})" if self.source else "")


def _cause(lines: list[str]) -> str:
    """Return the line that names the cause: TorchScript puts it last, behind its own traceback."""
    named = [line for line in lines if "Error: " in line]
    return (named or lines[:1])[-1].strip()
