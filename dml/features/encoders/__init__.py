"""Tile encoders: one file each, with a card that says what it expects and under which licence."""

from dml.features.encoders.registry import EncoderCard, TileEncoder, get, names

__all__ = ["EncoderCard", "TileEncoder", "get", "names"]
