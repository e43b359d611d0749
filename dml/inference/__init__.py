"""Predict with an ensemble of fold models from slides, feature files and expression tables."""
