"""Workloads as Kubernetes objects, to be played to a real extender or a real cluster."""
