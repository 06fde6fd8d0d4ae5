"""Image inputs of the third-party protocols: base64 text and arrays, never local file paths."""

import base64
import binascii
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from transect.errors import ImageError
from transect.serving.detection.params import DetectQuery
from transect.serving.http.problems import ProblemError
from transect.serving.http.request_body import ImageInput, Upload


@dataclass(frozen=True)
class ProtocolRequest:
    """A parsed request of a third-party protocol: detection options, and images in order."""

    query: DetectQuery
    images: list[ImageInput]


def from_base64(text: str, name: str) -> ImageInput:
    """Decode base64 `text`, or a data: URL, to the bytes of an image file; an ImageError if it is not base64."""
    content = text.partition("base64,")[2] if text.startswith("data:") else text
    try:
        return Upload(name, base64.b64decode(content, validate=True))
    except (binascii.Error, ValueError):
        shown = text if len(text) <= 60 else f"{text[:60]}…"
        return ImageError(
            f"{name} ({shown!r}) is not base64 text; this service reads no files, so send the image itself."
        )


def rgb_images(values: Any) -> NDArray[np.uint8]:
    """Convert nested lists of integers from 0 to 255 to an array (n, H, W, 3); one image (H, W, 3) becomes n = 1.

    Raises ImageError for any other shape or value.
    """
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise ImageError("The rows of the array have different lengths; give RGB of shape (H, W, 3).") from error
    if array.ndim == 3:
        array = array[None]
    if array.ndim != 4 or array.shape[3] != 3 or not array.size:
        raise ImageError(f"The array has the shape {array.shape}; give RGB of shape (H, W, 3).")
    if array.dtype.kind not in "iu" or array.min() < 0 or array.max() > 255:
        raise ImageError("The array has other values than whole numbers from 0 to 255.")
    return array.astype(np.uint8)


def refuse_too_many(count: int, limit: int) -> None:
    """Raise ProblemError (413) if `count` images exceed `limit`."""
    if count > limit:
        detail = f"The request has {count} images, more than {limit} (TRANSECT_MAX_IMAGES); send fewer at a time."
        raise ProblemError(413, "too-many-images", detail)


def first_error(error: ValidationError, whole: str) -> str:
    """Return the first error as "field: reason"; `whole` stands for the field if the error is about the message."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    return f"{'.'.join(str(part) for part in first['loc']) or whole}: {first['msg'].removeprefix('Value error, ')}"
