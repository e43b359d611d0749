"""The encoders by name. To add one, write a module in this folder that defines ``CARD``; nothing else changes.

An installed package can add its own without touching this one: an entry point of group ``dml.encoders`` whose name is
the encoder's and whose value is its card. A TorchScript or ONNX file needs only a description, ``encoders/<name>.yaml``
(see `backends.own`).
"""

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from dml.core.errors import ConfigError, InputError

_GROUP = "dml.encoders"
_NOT_ENCODERS = {"registry", "running"}
OWN = Path("encoders")
"""Descriptions of users' own encoders, relative to the root of the repository."""
_registered: dict[str, "EncoderCard"] = {}


@runtime_checkable
class TileEncoder(Protocol):
    """Turn uint8 tiles [b h w 3] into float16 tokens [b d]; a tile's token does not depend on its neighbours."""

    def __call__(self, tiles: NDArray[np.uint8]) -> NDArray[np.float16]:
        """Encode some tiles."""
        ...


@dataclass(frozen=True, slots=True)
class EncoderCard:
    """What an encoder is and expects.

    Attributes
    ----------
    name : str
        As in params.yaml, and the folder its features are in.
    width : int
        Numbers per tile.
    mpp : float
        Microns per pixel it was trained at (ImageNet encoders: the resolution commonly used).
    input_px : int or None
        Side of the tiles it takes, others are resampled to it; None = any.
    mean, std : tuple of float
        Normalisation of channels in 0..1.
    licence, paper : str
        Under which terms, and where it is described.
    gated : bool
        Whether the weights need an agreement with their authors.
    load_with : callable or None
        (device, precision) -> TileEncoder. None = features are only imported.
    hash_with : callable or None
        Fingerprint of the weights.
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

    @property
    def import_only(self) -> bool:
        """Whether features of this encoder are imported and never computed here."""
        return self.load_with is None

    def load(self, device: str = "cpu", precision: str = "float32") -> TileEncoder:
        """Load the weights.

        Raises
        ------
        InputError
            If this encoder cannot encode tiles here.
        """
        if self.load_with is None:
            raise InputError(
                f"encoder {self.name}",
                "it cannot encode tiles: only features extracted elsewhere are read",
                "Set embed.source to import, or choose another encoder",
            )
        return self.load_with(device, precision)

    def weights_hash(self) -> str:
        """Return a fingerprint of the weights; ``imported`` where they are not here."""
        return "imported" if self.hash_with is None else self.hash_with()


def register(card: EncoderCard) -> EncoderCard:
    """Add an encoder for the running process; modules of this folder need not."""
    _registered[card.name] = card
    return card


def names() -> list[str]:
    """Return the names of all encoders."""
    import dml.features.encoders as package

    found = (module.name for module in pkgutil.iter_modules(package.__path__) if not module.ispkg)
    installed = (point.name for point in entry_points(group=_GROUP))
    own = (path.stem for path in OWN.glob("*.yaml"))
    return sorted({*_registered, *installed, *own, *(name for name in found if name not in _NOT_ENCODERS)})


def get(name: str) -> EncoderCard:
    """Return the card of an encoder.

    Raises
    ------
    ConfigError
        If there is none of that name; the message lists those there are.
    """
    if name in _registered:
        return _registered[name]
    if name not in names():
        raise ConfigError(f"embed.encoder: unknown encoder {name!r}; there are: {', '.join(names())}")
    if (OWN / f"{name}.yaml").exists():  # read anew each time: a file may change
        from dml.features.encoders.backends.user_encoder import own_card

        return own_card(OWN / f"{name}.yaml")
    installed = {point.name: point for point in entry_points(group=_GROUP)}
    if name in installed:
        card: EncoderCard = installed[name].load()
    else:
        card = importlib.import_module(f"dml.features.encoders.{name}").CARD
    return register(card)
