"""One file for each benchmark or family of benchmarks; a new file is picked up automatically."""
