"""Durable tracking: a run's log is journalled on disk until MLflow has it."""
