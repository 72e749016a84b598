"""Half an hour of requests while everything around the extender changes: `python -m benchmarks.soak`."""
