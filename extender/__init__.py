"""The sidecar that kube-scheduler asks: scores nodes for pending pods with a policy trained in simulation.

It needs numpy and ONNX Runtime, and never imports `training`, torch, gymnasium, numba or hydra.
"""
