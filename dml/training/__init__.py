"""Batches, losses, gradient coordination, distillation and the one training loop."""
