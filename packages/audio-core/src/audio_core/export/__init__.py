"""Models for other machines, as ONNX, TensorFlow Lite or C: what the exports of several packages share."""
