"""Loss terms beside the task, one subject a module; see `dml.training.loss_terms.registry`."""
