"""A causal model for other programs: ONNX."""
