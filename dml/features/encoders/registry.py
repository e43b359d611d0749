"""The encoders by name. To add one, write a module in this folder that defines ``CARD``; nothing else changes.

An installed package can add its own without touching this one: an entry point of group ``dml.encoders`` whose name is
the encoder's and whose value is its card. A TorchScript or ONNX file needs only a description, ``encoders/<name>.yaml``
(see `backends.user_encoder`).
"""

import importlib
import pkgutil
from importlib.metadata import entry_points
from pathlib import Path

from dml.core.errors import ConfigError
from dml.features.encoders.backends.user_encoder import user_encoder_card
from dml.features.encoders.card import EncoderCard

USER_ENCODERS = Path("encoders")
"""Descriptions of users' own encoders, relative to the root of the repository."""
_ENTRY_POINTS = "dml.encoders"
_NOT_ENCODERS = {"card", "registry"}
_registered: dict[str, EncoderCard] = {}


def register(card: EncoderCard) -> EncoderCard:
    """Add an encoder for the running process; modules of this folder need not."""
    _registered[card.name] = card
    return card


def names() -> list[str]:
    """Return the names of all encoders."""
    folder = Path(__file__).parent
    modules = {module.name for module in pkgutil.iter_modules([str(folder)]) if not module.ispkg} - _NOT_ENCODERS
    installed = {point.name for point in entry_points(group=_ENTRY_POINTS)}
    described = {path.stem for path in USER_ENCODERS.glob("*.yaml")}
    return sorted({*_registered, *installed, *described, *modules})


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
    description = USER_ENCODERS / f"{name}.yaml"
    if description.exists():  # read anew each time: a file may change
        return user_encoder_card(description)
    installed = {point.name: point for point in entry_points(group=_ENTRY_POINTS)}
    if name in installed:
        card: EncoderCard = installed[name].load()
    else:
        card = importlib.import_module(f"dml.features.encoders.{name}").CARD
    return register(card)
