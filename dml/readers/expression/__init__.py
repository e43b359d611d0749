"""Formats of expression matrices, one a file."""
