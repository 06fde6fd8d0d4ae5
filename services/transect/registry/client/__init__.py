"""Talking to MLflow: connection, questions, names, uploads, finished runs."""
