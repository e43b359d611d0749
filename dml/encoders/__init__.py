"""Tile encoders: one module each, with a card that says what it expects and under which licence."""
