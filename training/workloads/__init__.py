"""Where nodes and pods come from: public traces and generators, all as a `Population` that workloads are drawn from."""
