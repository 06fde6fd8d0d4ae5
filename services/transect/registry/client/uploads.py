"""Files of one run on their way to the artifact store, several at once: each alone would wait for a far server."""

import threading
from collections.abc import Sequence
from pathlib import Path

from mlflow import MlflowClient

AT_ONCE = 8
"""Files on their way at the same time; a client of MLflow keeps ten connections."""

Upload = tuple[Path, str | None]
"""A file, and the folder among the run's artifacts that it goes to; None is their root."""


def upload(client: MlflowClient, run_id: str, files: Sequence[Upload]) -> list[Exception | None]:
    """Log each file to the run; what became of each, in order: None is well.

    Where one of those that go together fails, the ones behind them are not tried and not told of: nobody waits
    for an absent store more than once. No two may go to the same place.
    """
    found: list[Exception | None] = []
    for first in range(0, len(files), AT_ONCE):
        if any(found):
            break
        found += _together(client, run_id, files[first : first + AT_ONCE])
    return found


def _together(client: MlflowClient, run_id: str, files: Sequence[Upload]) -> list[Exception | None]:
    found: list[Exception | None] = [None] * len(files)

    def send(number: int) -> None:
        path, folder = files[number]
        try:
            client.log_artifact(run_id, str(path), folder)
        except Exception as error:  # noqa: BLE001 - whoever asked gets it, whatever a store raises
            found[number] = error

    # Not a pool: its threads would keep a process that is to end waiting for a server that never answers.
    threads = [
        threading.Thread(target=send, args=(number,), name="upload", daemon=True) for number in range(1, len(files))
    ]
    for thread in threads:
        thread.start()
    send(0)
    for thread in threads:
        thread.join()
    return found
