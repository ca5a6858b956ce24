"""A model for other machines: ONNX, TensorFlow Lite, C."""
