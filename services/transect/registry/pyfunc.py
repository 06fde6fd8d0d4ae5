"""The MLflow pyfunc flavour of a model package: mlflow.pyfunc.load_model("models:/detector@production").predict(...).

`predict` takes MLflow's input: a table whose first column contains images, each a path, base64 text,
encoded bytes, or an RGB array of shape (H, W, 3). It returns one Detection record per image. An unreadable
image yields a record with `failure`; the other images are still searched.
"""

import base64
import binascii
from pathlib import Path
from typing import Any

import numpy as np

from transect.engine import Detector, ImageResult, ModelRef, read_manifest
from transect.errors import ImageError
from transect.imagery import Raster, as_raster, open_raster
from transect.settings import load_settings


class DetectorModel:
    """A detector with the interface that MLflow expects of a model."""

    def __init__(self, detector: Detector, max_pixels: int) -> None:
        self._detector = detector
        self._max_pixels = max_pixels

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """Return one Detection record per image of `model_input`; there are no `params`."""
        if params:
            raise ValueError(f"This model takes no parameters, but got {', '.join(sorted(params))}.")
        return [self._detect(number, value).to_json() for number, value in enumerate(_images(model_input))]

    def _detect(self, number: int, value: Any) -> ImageResult:
        name = value if isinstance(value, str) and _is_file(value) else f"image {number}"
        try:
            with self._open(value, name) as raster:
                return self._detector.detect(raster, name=name)
        except ImageError as error:
            return ImageResult.failed(name, self._detector.ref, str(error))

    def _open(self, value: Any, name: str) -> Raster:
        if isinstance(value, np.ndarray):
            if value.ndim != 3 or value.shape[2] != 3 or value.dtype != np.uint8 or not value.size:
                raise ImageError(
                    f"{name} is an array of shape {value.shape} and type {value.dtype}; give RGB uint8 (H, W, 3)."
                )
            return as_raster(np.ascontiguousarray(value))
        if isinstance(value, bytes | bytearray):
            return open_raster(bytes(value), name=name, max_pixels=self._max_pixels)
        if isinstance(value, str | Path):
            source = Path(value) if _is_file(str(value)) else _from_base64(str(value), name)
            return open_raster(source, name=name, max_pixels=self._max_pixels)
        raise ImageError(f"{name} is a {type(value).__name__}; give a path, base64 text, bytes or an RGB array.")


def _load_pyfunc(data_path: str) -> DetectorModel:
    """Open the package for MLflow, which calls this by name."""
    settings = load_settings()
    package = Path(data_path)
    ref = ModelRef(settings.model_name, run_id=read_manifest(package).run_id)
    return DetectorModel(Detector.from_settings(package, settings, ref=ref), settings.max_pixels)


def _images(model_input: Any) -> list[Any]:
    if hasattr(model_input, "columns"):
        column = "image" if "image" in model_input.columns else model_input.columns[0]
        return list(model_input[column])
    if isinstance(model_input, np.ndarray) and model_input.ndim == 3:
        return [model_input]
    return [model_input] if isinstance(model_input, str | bytes) else list(model_input)


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):
        # Base64 text is too long for a path.
        return False


def _from_base64(text: str, name: str) -> bytes:
    try:
        return base64.b64decode(text.partition("base64,")[2] if text.startswith("data:") else text, validate=True)
    except (binascii.Error, ValueError) as error:
        shown = text if len(text) <= 100 else f"{text[:100]}…"
        raise ImageError(f"{name} ({shown}) is neither a file here nor base64 text.") from error
