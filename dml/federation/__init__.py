"""Federated training: sites keep their patients; weights, sums and counts leave, and nothing else."""
