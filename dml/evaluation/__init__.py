"""Honest numbers: metrics, intervals, nulls, figures and the report."""
