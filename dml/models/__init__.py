"""Teacher, student and baselines."""
