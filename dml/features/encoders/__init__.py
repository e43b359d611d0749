"""Tile encoders, one a file."""
