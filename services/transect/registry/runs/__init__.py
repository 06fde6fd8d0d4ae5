"""Runs that MLflow has: search, lineage, clean-up."""
