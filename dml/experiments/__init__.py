"""What is run on top of the pipeline: ablation, tuning, reproduction, external validation."""
