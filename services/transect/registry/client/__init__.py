"""MLflow client helpers: connection, queries, names, uploads, finished runs."""
