"""Export: the network as files for other machines, ONNX, TensorFlow Lite and C, and its integer form."""
