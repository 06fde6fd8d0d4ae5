"""LitServe in front of an Ultralytics model, as its documentation has it. Started by benchmarks/serve.py.

BENCH_WORKERS processes, each with a model; BENCH_BATCH is the most images in one call of the model, which waits
10 ms at most for them; BENCH_THREADS are torch's threads in each.
"""

import os
from collections.abc import Sequence
from typing import Any

import cv2
import litserve  # type: ignore[import-not-found]  # is in .venv-bench alone
import numpy as np
import torch
from benchmarks.models import CONF, IMAGE_SIZE, IOU
from benchmarks.peers.fastapi_ultralytics import answer
from fastapi import Request
from ultralytics.models import YOLO

_BATCH = int(os.environ["BENCH_BATCH"])


class Detection(litserve.LitAPI):  # type: ignore[misc]  # its types are not here either
    """Form upload in, boxes out."""

    def setup(self, device: str) -> None:
        """Load the model and run it once."""
        self.model = YOLO(os.environ["BENCH_WEIGHTS"])
        blank = np.zeros((IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
        self.model.predict(blank, imgsz=IMAGE_SIZE, device="cpu", verbose=False)
        # Ultralytics has set it to one less than there are cores.
        torch.set_num_threads(int(os.environ["BENCH_THREADS"]))

    def decode_request(self, request: Request) -> Any:
        """The picture of the form field `image`."""
        form: Any = request
        return cv2.imdecode(np.frombuffer(form["image"].file.read(), np.uint8), cv2.IMREAD_COLOR)

    def batch(self, inputs: Sequence[Any]) -> Sequence[Any]:
        """A list, since pictures may differ in size."""
        return inputs

    def predict(self, pictures: Any) -> Any:
        """Results of one picture or of several."""
        found: Any = self.model.predict(pictures, imgsz=IMAGE_SIZE, conf=CONF, iou=IOU, device="cpu", verbose=False)
        return found if _BATCH > 1 else found[0]

    def unbatch(self, output: Any) -> Any:
        """One result for each picture."""
        return output

    def encode_response(self, output: Any) -> dict[str, Any]:
        """What was found."""
        return answer(output)


if __name__ == "__main__":
    server = litserve.LitServer(
        Detection(max_batch_size=_BATCH, batch_timeout=0.01 if _BATCH > 1 else 0.0),
        accelerator="cpu",
        workers_per_device=int(os.environ["BENCH_WORKERS"]),
    )
    server.run(host="127.0.0.1", port=int(os.environ["BENCH_PORT"]), generate_client_file=False, log_level="warning")
