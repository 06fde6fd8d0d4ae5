"""Fixtures of the integration tests: the real servers."""

from integration.servers import mlflow_on_postgres, mlflow_on_sqlite, postgres_uri, s3_server

__all__ = ["mlflow_on_postgres", "mlflow_on_sqlite", "postgres_uri", "s3_server"]
