"""Patch features: encoders, the Parquet store, and exchange with other tools."""
