"""POST /v1/detect."""

import logging
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import JSONResponse, Response

from transect.engine import ImageResult, ModelRef
from transect.errors import TransectError
from transect.serving.detection import Detected
from transect.serving.intake import Batch, read_batch
from transect.serving.metrics import Metrics
from transect.serving.problems import ProblemError
from transect.serving.query import DetectQuery, detect_options
from transect.serving.schemas import ImageAnswer, ImagesAnswer, problems
from transect.serving.service import Service

router = APIRouter(tags=["detection"])
_log = logging.getLogger(__name__)

_FILE = {"type": "string", "format": "binary"}
_FORM = {
    "type": "object",
    "properties": {
        "image": {**_FILE, "description": "One image; the answer is one object."},
        "images": {"type": "array", "items": _FILE, "description": "Images; the answer is a list, even of one."},
    },
}
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {"schema": _FORM},
            "image/*": {"schema": _FILE},
            "application/octet-stream": {"schema": _FILE},
        },
    }
}
_PROBLEMS = problems(
    {
        400: "The multipart body is broken.",
        408: "The body stopped arriving.",
        413: "Over the limit of bytes, images or pixels.",
        415: "The body is not images.",
        422: "An option or the one image cannot be used.",
        503: "No model is loaded, or every place is taken (Retry-After).",
    }
)


@router.post(
    "/v1/detect",
    response_model=ImageAnswer | ImagesAnswer,
    responses={
        200: {"description": "What was found.", "content": {"image/jpeg": {"schema": _FILE}}},
        **_PROBLEMS,
    },
    openapi_extra=_BODY,
)
async def detect(request: Request, query: Annotated[DetectQuery, Query()]) -> Response:
    """Find objects in one image or several.

    A raw body, or a form with one file in the field `image`, is answered with one object, and with
    an error where the image cannot be read. A form with the field `images`, or with more than one
    file, is answered with `{"results": [...]}` in the order of the files; there an image that cannot
    be read has a `failure`, and the others their results.
    """
    service: Service = request.app.state.service
    deadline = service.deadline(request)
    service.lease().release()
    service.admission.refuse_when_full()
    async with read_batch(request, service.limits) as batch:
        draw = query.format == "image"
        if draw and len(batch.uploads) > 1:
            raise ProblemError(422, "one-image", f"format=image takes one image; got {len(batch.uploads)}.")
        with service.admission.place(), (lease := service.lease()) as model:
            options = detect_options(query, service.settings, model.detector.manifest.names)
            outcomes = await service.detect(lease, batch.uploads, options, draw=draw, deadline=deadline)
            ref = model.detector.ref
    _account(service.metrics, outcomes, ref, request.state.log)
    headers = {"X-Transect-Model": f"{ref.name}/{ref.version}"}
    if draw or not batch.as_list:
        return _one(outcomes[0], headers)
    results = [_listed(outcome, batch, index, ref) for index, outcome in enumerate(outcomes)]
    return JSONResponse({"results": [result.to_json() for result in results]}, headers=headers)


def _one(outcome: Detected | BaseException, headers: dict[str, str]) -> Response:
    if isinstance(outcome, BaseException):
        raise outcome
    if outcome.drawn is not None:
        return Response(outcome.drawn, media_type="image/jpeg", headers=headers)
    return JSONResponse(outcome.result.to_json(), headers=headers)


def _listed(outcome: Detected | BaseException, batch: Batch, index: int, ref: ModelRef) -> ImageResult:
    if isinstance(outcome, Detected):
        return outcome.result
    name = batch.uploads[index].name
    if isinstance(outcome, TransectError):
        return ImageResult.failed(name, ref, str(outcome))
    if not isinstance(outcome, Exception):
        raise outcome
    # One image that breaks the program must not take the others' results with it.
    _log.error("An image failed", exc_info=outcome)
    return ImageResult.failed(name, ref, f"The service failed on it ({type(outcome).__name__}); its log says why.")


def _account(
    metrics: Metrics, outcomes: Sequence[Detected | BaseException], ref: ModelRef, log: dict[str, Any]
) -> None:
    """Count the images into `metrics` and describe them in the request's `log` line."""
    done = [outcome for outcome in outcomes if isinstance(outcome, Detected)]
    metrics.images.labels("ok").inc(len(done))
    metrics.images.labels("failed").inc(len(outcomes) - len(done))
    longest: dict[str, float] = {}
    for outcome in done:
        metrics.tiles.inc(outcome.result.tiles)
        for detection in outcome.result.detections:
            metrics.detections.labels(detection.class_name).inc()
        for stage, seconds in outcome.stages.items():
            metrics.stage_seconds.labels(stage).observe(seconds)
            longest[stage] = max(seconds, longest.get(stage, 0.0))
    log.update(
        model=ref.name,
        version=ref.version,
        images=len(outcomes),
        failed=len(outcomes) - len(done),
        tiles=sum(outcome.result.tiles for outcome in done),
        detections=sum(len(outcome.result.detections) for outcome in done),
        **{f"{stage}_ms": round(seconds * 1000, 1) for stage, seconds in longest.items()},
    )
