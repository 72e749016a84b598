"""What a cycle is made of: the names of its steps, and of the files that they leave in its folder for each other."""

from training.workloads import csv_trace, kubectl
from training.workloads.recorded import LOG_FILE

RECORD, FIT, TRAIN, GATE = "record", "fit", "train", "gate"
SHADOW, CANARY, ACTIVATE = "shadow", "canary", "activate"

RECORDED = "recorded"
NODE_FILES = kubectl.NODE_FILE, csv_trace.NODE_FILE  # one of them
LOG = f"{RECORDED}/{LOG_FILE}"
INCUMBENT = "incumbent.onnx"
WORKLOAD = "workload.json"
CANDIDATE = "candidate.onnx"
