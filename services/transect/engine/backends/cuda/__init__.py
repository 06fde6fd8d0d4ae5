"""Detectors on NVIDIA GPUs: sessions, their workers, the runtime and its errors."""
