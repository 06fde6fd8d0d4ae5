"""MLflow: packages, aliases, verified local copies, promotion."""
