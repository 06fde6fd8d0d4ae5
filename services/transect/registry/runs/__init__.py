"""MLflow runs: search, lineage, clean-up."""
