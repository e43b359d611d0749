"""params.yaml as frozen types, and how it is rewritten without losing comments."""
