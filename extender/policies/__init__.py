"""What scores the candidates: trained policies (`onnx`) and hand-written rules (`heuristics`), behind one protocol (`base`)."""
