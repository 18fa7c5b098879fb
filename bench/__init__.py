"""Benchmarks: `python -m bench` runs all, `python -m bench.train_step` and so on one of them; docs/performance.md."""
