"""Copy runs and models between MLflow stores."""
