"""Benchmarks: each a small file in `cases/`, measured in its own process. Run `make bench` or `make bench-full`."""
