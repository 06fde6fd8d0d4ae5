"""Commands on MLflow runs."""
