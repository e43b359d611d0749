"""Whole-slide images: opening, tissue, and tile grids whose magnifications nest."""
