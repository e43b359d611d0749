"""Adaptation of a tile encoder to histology: low-rank changes of its last layers, learnt from measured expression."""
