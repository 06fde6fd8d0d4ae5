"""LitServe in front of an Ultralytics model, as its documentation has it. Started by benchmarks/serve.py.

BENCH_WORKERS processes, each with a model; BENCH_BATCH is the most images in one call of the model, which waits
10 ms at most for them.
"""

import os
from collections.abc import Sequence
from typing import Any

import litserve  # type: ignore[import-not-found]  # is in .venv-bench alone
from benchmarks.peers.ultralytics_model import Model, picture
from fastapi import Request

_BATCH = int(os.environ["BENCH_BATCH"])


class Detection(litserve.LitAPI):  # type: ignore[misc]  # its types are not here either
    """Form upload in, boxes out."""

    def setup(self, device: str) -> None:
        """Load the model and run it once."""
        self.model = Model()

    def decode_request(self, request: Request) -> Any:
        """The picture of the form field `image`."""
        form: Any = request
        return picture(form["image"].file.read())

    def batch(self, inputs: Sequence[Any]) -> list[Any]:
        """A list, since pictures may differ in size."""
        return list(inputs)

    def predict(self, pictures: Any) -> Any:
        """The answers to several pictures, or to one."""
        return self.model.detect(pictures) if _BATCH > 1 else self.model.detect([pictures])[0]

    def unbatch(self, output: Any) -> Any:
        """One answer for each picture."""
        return output

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        """The answer as it is."""
        return output


if __name__ == "__main__":
    server = litserve.LitServer(
        Detection(max_batch_size=_BATCH, batch_timeout=0.01 if _BATCH > 1 else 0.0),
        accelerator="cpu",
        workers_per_device=int(os.environ["BENCH_WORKERS"]),
    )
    server.run(host="127.0.0.1", port=int(os.environ["BENCH_PORT"]), generate_client_file=False, log_level="warning")
