"""One uploaded image to one result, on a worker thread, with the time of each stage."""

from dataclasses import dataclass
from time import perf_counter

from transect.engine import DetectOptions, ImageResult
from transect.errors import ImageError
from transect.imagery import LONGEST_JPEG_SIDE, annotate, decode_image, encode_jpeg
from transect.serving.intake import Upload
from transect.serving.slot import ServedModel


@dataclass(frozen=True)
class Detected:
    """A result, the drawn JPEG where it was asked for, and the seconds of each stage."""

    result: ImageResult
    drawn: bytes | None
    stages: dict[str, float]


def detect_upload(
    model: ServedModel, upload: Upload, options: DetectOptions, *, max_pixels: int, draw: bool, submitted: float
) -> Detected:
    """Decode, detect and, if asked, draw. `submitted` is perf_counter() when the work was queued.

    Raises ImageError for an image that cannot be read, or is too large to be drawn.
    """
    start = perf_counter()
    data = upload.data
    pixels = decode_image(data, name=upload.name, max_pixels=max_pixels) if isinstance(data, bytes) else data
    decoded = perf_counter()
    if draw and max(pixels.shape) > LONGEST_JPEG_SIDE:
        raise ImageError(f"{upload.name} is too large to be drawn as JPEG; ask with format=json.")
    result = model.detector.detect(pixels, name=upload.name, options=options)
    found = perf_counter()
    stages = {"queue": start - submitted, "decode": decoded - start, "infer": found - decoded}
    if not draw:
        return Detected(result, None, stages)
    drawn = encode_jpeg(annotate(pixels, result.detections))
    return Detected(result, drawn, {**stages, "encode": perf_counter() - found})
