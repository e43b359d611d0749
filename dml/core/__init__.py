"""Boundary types, errors, atomic files and predictions: what every other package may import."""
