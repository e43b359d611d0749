"""Disentangled multi-modal learning of histology and transcriptomics."""

__version__ = "0.2.0"
