"""Fixtures of the integration tests: the real servers."""

import signal

import pytest

from integration.servers import mlflow_on_postgres, mlflow_on_sqlite, postgres_uri, s3_server

__all__ = ["mlflow_on_postgres", "mlflow_on_sqlite", "postgres_uri", "s3_server"]


def pytest_configure(config: pytest.Config) -> None:
    """Let SIGTERM end the session as Ctrl-C does, so that the servers are stopped with it."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
