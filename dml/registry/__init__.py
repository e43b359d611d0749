"""Registered versions: packaging, promotion gates, aliases, prediction by name."""
