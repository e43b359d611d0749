"""What each tile and gene contributed to a model's output, so that the contributions add up to it."""
