"""Reference models under the same folds, one a file."""
