"""FastAPI in front of an Ultralytics model, as a careful user writes it. Started by benchmarks/serve.py with uvicorn.

An Ultralytics model is not safe in several threads. BENCH_MODELS=shared keeps one behind a lock, which all cores
work for; BENCH_MODELS=own gives each of FastAPI's threads its own.
"""

import os
import threading
from contextlib import nullcontext
from typing import Any

from benchmarks.peers.ultralytics_model import Model, picture
from fastapi import FastAPI, UploadFile


def create_app() -> FastAPI:
    """The application; the model is loaded and has run once before the first request."""
    app = FastAPI()
    shared = os.environ["BENCH_MODELS"] == "shared"
    lock: Any = threading.Lock() if shared else nullcontext()
    first, local = Model(), threading.local()

    def model() -> Model:
        if shared:
            return first
        if not hasattr(local, "model"):
            local.model = Model()
        own: Model = local.model
        return own

    @app.post("/detect")
    def detect(image: UploadFile) -> dict[str, Any]:
        pixels = picture(image.file.read())
        with lock:
            return model().detect([pixels])[0]

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    return app
