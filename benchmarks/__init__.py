"""Benchmarks, one small file each in `cases/`, measured in separate processes: `make bench` or `make bench-full`."""
