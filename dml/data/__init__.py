"""What a model reads: stores, preprocessing fitted on training patients, batches."""
