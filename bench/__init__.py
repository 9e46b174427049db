"""Benchmarks behind the figures in docs/results: ``make bench`` or ``make bench PART=training``."""
