"""Transect: train wildlife detectors, track every run, serve the best one, count animals."""

import os

__version__ = "0.1.0"

# Libraries that report their use to their makers. MLflow and ONNX Runtime look at these when they are imported, and one
# import gives whoever runs it an identity, in a file of the home directory: so before any module of ours imports them.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
