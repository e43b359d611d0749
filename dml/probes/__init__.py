"""Probes of what trained models rely on, and the permutation test of the whole training."""
