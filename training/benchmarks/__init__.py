"""Published benchmarks, repeated."""
