"""Backends on NVIDIA GPUs: sessions, batch runners, the CUDA runtime and its errors."""
