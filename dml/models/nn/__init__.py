"""Operators the models are made of, one a file."""
