"""An encoder with an adapter: the base encoder, its weights changed by a small file (`low_rank`)."""

from dataclasses import replace
from pathlib import Path

from dml.core.errors import ConfigError, InputError, refuse_unreadable
from dml.core.files import digest
from dml.encoders.backends.adapter_description import AdaptedEncoder
from dml.encoders.backends.low_rank import merge
from dml.encoders.backends.tile_encoder import TileEncoderRunner
from dml.encoders.card import EncoderCard, TileEncoder
from dml.slides.slide_fingerprint import slide_fingerprint


def adapted_encoder_card(path: Path, base: EncoderCard, spec: AdaptedEncoder) -> EncoderCard:
    """Return the card of an adapted encoder: that of its base, with other weights.

    Raises
    ------
    ConfigError
        If the base cannot be adapted.
    """
    adapter = path.parent / spec.adapter
    if base.load_with is None or base.hash_with is None:
        raise ConfigError(f"{path}: base: {base.name} cannot encode tiles, so it cannot be adapted")
    load_base, hash_base = base.load_with, base.hash_with

    def load(device: str, precision: str) -> TileEncoder:
        from safetensors.torch import load_file

        encoder = load_base(device, precision)
        if not isinstance(encoder, TileEncoderRunner):
            raise InputError(path, f"base: {base.name} is no PyTorch network", "Adapt another encoder")
        if not adapter.is_file():
            raise InputError(adapter, "the file does not exist", f"Put it beside {path}, or run dml adapt again")
        with refuse_unreadable(adapter, "Run dml adapt again"):
            changes = {name: tensor.to(device) for name, tensor in load_file(adapter).items()}
        merge(encoder.network, changes, adapter)
        return encoder

    return replace(
        base, name=path.stem, load_with=load, hash_with=lambda: digest(hash_base(), slide_fingerprint(adapter)),
        requirements=(*base.requirements, "safetensors"), aliases=(), source=str(path),
        trained_on=frozenset({*spec.trained_on.patients, *spec.trained_on.sections}),
    )  # fmt: skip
