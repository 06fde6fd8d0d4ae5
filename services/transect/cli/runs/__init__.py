"""Commands on the runs that MLflow has."""
