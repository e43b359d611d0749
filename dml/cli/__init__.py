"""The command line, ``dml``. Commands import what they need when they run, so that help and errors come at once."""

from dml.cli.app import main

__all__ = ["main"]
