"""Where nodes and pods come from: traces, recordings and generators, each a `Population` to draw workloads from."""
