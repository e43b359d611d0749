"""Cohort and feature validation: expectations, drift, near-duplicates, the summary page."""
