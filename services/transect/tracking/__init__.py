"""Durable tracking: what a run says is kept on disk until MLflow has it."""
