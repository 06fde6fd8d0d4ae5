"""From a trained checkpoint to a package: ONNX export, evaluation, and faster variants."""
