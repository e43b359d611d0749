"""Watched champions: drift of inputs and outputs, and performance as outcomes arrive, by tests for any time."""
