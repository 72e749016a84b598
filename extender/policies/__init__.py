"""What scores the candidates: trained policies (`onnx`) and rules (`heuristics`), behind one protocol (`base`)."""
