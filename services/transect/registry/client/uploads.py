"""Concurrent uploads of a run's files to the artifact store, to hide the latency of a remote server."""

import threading
from collections.abc import Sequence
from pathlib import Path

from mlflow import MlflowClient

AT_ONCE = 8
"""Concurrent uploads; an MLflow client keeps ten connections."""

Upload = tuple[Path, str | None]
"""A file and its target folder among the run's artifacts; None is the root."""


def upload(client: MlflowClient, run_id: str, files: Sequence[Upload]) -> list[Exception | None]:
    """Log each file to the run; returns the error of each in order, None for success.

    After a batch with a failure the remaining files are neither tried nor reported: the caller waits only
    once for an unavailable store. Targets must be distinct.
    """
    found: list[Exception | None] = []
    for first in range(0, len(files), AT_ONCE):
        if any(found):
            break
        found += _upload_batch(client, run_id, files[first : first + AT_ONCE])
    return found


def _upload_batch(client: MlflowClient, run_id: str, files: Sequence[Upload]) -> list[Exception | None]:
    found: list[Exception | None] = [None] * len(files)

    def send(number: int) -> None:
        path, folder = files[number]
        try:
            client.log_artifact(run_id, str(path), folder)
        except Exception as error:  # noqa: BLE001 - returned to the caller, whatever a store raises
            found[number] = error

    # Not a pool: its threads would keep an exiting process waiting for a server that never responds.
    threads = [
        threading.Thread(target=send, args=(number,), name="upload", daemon=True) for number in range(1, len(files))
    ]
    for thread in threads:
        thread.start()
    send(0)
    for thread in threads:
        thread.join()
    return found
