"""Exporting models to ONNX, TensorFlow Lite and C: the parts that several packages share."""
