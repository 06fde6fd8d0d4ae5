"""FastAPI in front of an Ultralytics model, as a careful user writes it. Started by benchmarks/serve.py with uvicorn.

An Ultralytics model is not safe in several threads. BENCH_MODELS=shared keeps one behind a lock, which all cores
work for; BENCH_MODELS=own gives each of FastAPI's threads its own. BENCH_THREADS are torch's threads for one image.
"""

import os
import threading
from contextlib import nullcontext
from typing import Any

import cv2
import numpy as np
import torch
from benchmarks.models import CONF, IMAGE_SIZE, IOU
from fastapi import FastAPI, UploadFile
from ultralytics.models import YOLO


def create_app() -> FastAPI:
    """The application; the model is loaded and has run once before the first request."""
    app = FastAPI()
    shared = os.environ["BENCH_MODELS"] == "shared"
    lock: Any = threading.Lock() if shared else nullcontext()
    first, local = _load(), threading.local()

    def model() -> Any:
        if shared:
            return first
        if not hasattr(local, "model"):
            local.model = _load()
        return local.model

    @app.post("/detect")
    def detect(image: UploadFile) -> dict[str, Any]:
        picture = cv2.imdecode(np.frombuffer(image.file.read(), np.uint8), cv2.IMREAD_COLOR)
        with lock:
            (result,) = model().predict(picture, imgsz=IMAGE_SIZE, conf=CONF, iou=IOU, device="cpu", verbose=False)
        return answer(result)

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    return app


def _load() -> Any:
    model = YOLO(os.environ["BENCH_WEIGHTS"])
    blank = np.zeros((IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    model.predict(blank, imgsz=IMAGE_SIZE, device="cpu", verbose=False)
    # Ultralytics has set it to one less than there are cores.
    torch.set_num_threads(int(os.environ["BENCH_THREADS"]))
    return model


def answer(result: Any) -> dict[str, Any]:
    """What was found in one image, as JSON takes it."""
    boxes = result.boxes
    rows = zip(boxes.xyxy.tolist(), boxes.conf.tolist(), boxes.cls.int().tolist(), strict=True)
    return {
        "detections": [
            {"box": box, "score": score, "class_id": number, "class_name": result.names[number]}
            for box, score, number in rows
        ]
    }
