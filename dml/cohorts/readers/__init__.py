"""One source format a file."""
