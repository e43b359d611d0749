"""The encoders by name. To add one, write a module in this folder that defines ``CARD``; nothing else changes.

An installed package can add its own without touching this one: an entry point of group ``dml.encoders`` whose name is
the encoder's and whose value is its card. A TorchScript or ONNX file needs only a description, ``encoders/<name>.yaml``
(see `backends.user_encoder`).
"""

import importlib
import pkgutil
import re
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from dml.core.errors import ConfigError
from dml.encoders.backends.adapted_encoder import adapted_encoder_card
from dml.encoders.backends.adapter_description import read_adapted_encoder
from dml.encoders.backends.user_encoder import user_encoder_card
from dml.encoders.card import EncoderCard

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
    described = {path.stem for path in USER_ENCODERS.glob("*.yaml")}
    return sorted({*_registered, *_installed(), *described, *builtin_names()})


@cache
def _installed() -> dict[str, EntryPoint]:
    """Return the encoders of installed packages; looking through all packages takes 30 ms, so it is done once."""
    return {point.name: point for point in entry_points(group=_ENTRY_POINTS)}


def builtin_names() -> set[str]:
    """Return the names of the encoders that have a module in this folder."""
    modules = pkgutil.iter_modules([str(Path(__file__).parent)])
    return {module.name for module in modules if not module.ispkg} - _NOT_ENCODERS


def canonical(name: str) -> str:
    """Return the name under which an encoder of another tool is known here; an unknown name in lower-case letters.

    Examples
    --------
    >>> canonical("UNI_v1"), canonical("uni-0a1b2c3d"), canonical("My.Encoder")
    ('uni', 'uni', 'myencoder')
    """
    plain = _plain(re.sub(r"-[0-9a-f]{6,}$", "", name))  # STAMP appends the hash of its code
    return _aliases().get(plain, plain)


def known_encoder(name: str) -> str | None:
    """Return the encoder that a name of another tool means; None if it means none."""
    return _aliases().get(_plain(name))


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


@cache
def _aliases() -> dict[str, str]:
    cards = [get(name) for name in sorted(builtin_names())]
    return {_plain(alias): card.name for card in cards for alias in (card.name, *card.aliases)}


def get(name: str) -> EncoderCard:
    """Return the card of an encoder.

    Raises
    ------
    ConfigError
        If there is none of that name; the message lists those there are.

    Examples
    --------
    >>> card = get("uni")
    >>> card.width, card.mpp, card.gated
    (1024, 0.5, True)
    """
    if name in _registered:
        return _registered[name]
    if name not in names():
        raise ConfigError(f"embed.encoder: unknown encoder {name!r}; there are: {', '.join(names())}")
    description = USER_ENCODERS / f"{name}.yaml"
    if description.exists():  # read anew each time: a file may change
        adapted = read_adapted_encoder(description)
        if adapted is None:
            return user_encoder_card(description)
        if adapted.base == name:
            raise ConfigError(f"{description}: base: an encoder cannot be its own base")
        return adapted_encoder_card(description, get(adapted.base), adapted)
    if name in _installed():
        card: EncoderCard = _installed()[name].load()
    else:
        card = importlib.import_module(f"dml.encoders.{name}").CARD
    return register(card)
