"""Disentangled multi-modal learning of histology and transcriptomics."""
