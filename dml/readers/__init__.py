"""Readers of raw files: tables, archives, expression matrices, gene sets; columns, samples and joins of ids."""
