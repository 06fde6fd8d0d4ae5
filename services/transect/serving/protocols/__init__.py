"""Third-party protocols: Open Inference Protocol v2 and MLflow scoring."""
