"""Benchmarks: what they measure is printed as a table and kept in `results/`, all in one form."""
