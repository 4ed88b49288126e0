"""Side-by-side measurements, run by `make bench`. docs/benchmarks.md keeps the figures."""
