"""A registered model behind HTTP: limits, batches across requests, a warm encoder."""
