"""Penalised linear models on principal components."""
