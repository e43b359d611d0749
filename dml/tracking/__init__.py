"""MLflow runs: store, parameters, lineage, metrics, artifacts."""
