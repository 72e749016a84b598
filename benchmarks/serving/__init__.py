"""How long an answer takes, beside a server that does nothing: `python -m benchmarks.serving`."""
