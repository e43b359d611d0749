"""One benchmark or one family of them a file; a new file is found by itself."""
