"""The sidecar that kube-scheduler asks: scores nodes for pending pods with a policy trained in simulation.

It needs numpy and ONNX Runtime, and never imports `training`, torch, gymnasium, numba or hydra.
"""

import os

# ONNX Runtime reports its use to its makers over the network, unless this is set before it is loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
