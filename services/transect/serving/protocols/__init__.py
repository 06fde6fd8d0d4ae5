"""Other people's protocols: Open Inference, MLflow scoring."""
