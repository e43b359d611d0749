"""Formats of spatial expression: a spot table, counts per spot, and their position on the slide."""
