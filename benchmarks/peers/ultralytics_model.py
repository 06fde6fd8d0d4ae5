"""The Ultralytics model that the peers serve, configured by BENCH_ variables that benchmarks/serve.py sets."""

import os
from typing import Any

import cv2
import numpy as np
import torch
from ultralytics.models import YOLO

_OPTIONS: dict[str, Any] = {
    "imgsz": int(os.environ["BENCH_SIZE"]),
    "conf": float(os.environ["BENCH_CONF"]),
    "iou": float(os.environ["BENCH_IOU"]),
    "device": "cpu",
    "verbose": False,
}


class Model:
    """One loaded model, which has run once; not for several threads at a time."""

    def __init__(self) -> None:
        self._model = YOLO(os.environ["BENCH_WEIGHTS"])
        self.detect([np.zeros((_OPTIONS["imgsz"], _OPTIONS["imgsz"], 3), np.uint8)])
        # Ultralytics has set it to one less than there are cores.
        torch.set_num_threads(int(os.environ["BENCH_THREADS"]))

    def detect(self, pictures: list[Any]) -> list[dict[str, Any]]:
        """What is found in each picture, as JSON takes it."""
        return [_answer(result) for result in self._model.predict(pictures, **_OPTIONS)]


def picture(content: bytes) -> Any:
    """The pixels of an image file, as Ultralytics wants them (BGR)."""
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)


def _answer(result: Any) -> dict[str, Any]:
    boxes = result.boxes
    rows = zip(boxes.xyxy.tolist(), boxes.conf.tolist(), boxes.cls.int().tolist(), strict=True)
    return {
        "detections": [
            {"box": box, "score": score, "class_id": number, "class_name": result.names[number]}
            for box, score, number in rows
        ]
    }
