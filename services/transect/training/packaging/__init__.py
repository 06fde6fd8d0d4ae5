"""From a trained checkpoint to a package: ONNX, INT8, evaluation, and which variant is used."""
