"""An encoder for other machines: ONNX, TensorFlow Lite, C."""
