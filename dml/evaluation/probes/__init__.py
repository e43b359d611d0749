"""What the models rely on: probes of trained models on their test patients, and models trained on shuffled outcomes."""
