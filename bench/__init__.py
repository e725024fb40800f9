"""Benchmarks: ratios measured in one run, written to ``bench/results/`` and set in tables by ``bench.tables``."""
