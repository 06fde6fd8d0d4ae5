"""Response models of the API, for OpenAPI and for building responses."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel

from transect.serving.api.openapi import component_ref
from transect.serving.detection.service import Service
from transect.serving.http.disclosure import redact_locations
from transect.serving.http.problems import MEDIA_TYPE
from transect.serving.models.alias_follower import RejectedVersion


class Problem(BaseModel):
    """An error (RFC 9457)."""

    type: str = Field(description="Kind of the problem, for programs: urn:transect:problem:KIND.")
    title: str
    status: int
    detail: str = Field(description="What is wrong and what to do.")
    instance: str
    request_id: str


def problems(descriptions: dict[int, str]) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of a route that can return these statuses as problem+json."""
    content = {MEDIA_TYPE: {"schema": component_ref(Problem)}}
    return {status: {"description": text, "content": content} for status, text in descriptions.items()}


class _Response(BaseModel):
    model_config = ConfigDict(protected_namespaces=())


class DetectionResponse(_Response):
    """One detected object."""

    box: Annotated[
        tuple[float, float, float, float], Field(description="x1, y1, x2, y2 in pixels of the original image.")
    ]
    score: float
    class_id: int
    class_name: str


class ModelResponse(_Response):
    """The model that made the detections."""

    name: str
    version: str
    run_id: str
    precision: str = Field(description="Precision of the inference: fp32, bf16, int8, fp16 or tf32.")


class ImageResponse(_Response):
    """The detections in one image."""

    image: str = Field(description="Name of the image as it was sent.")
    width: int
    height: int
    detections: list[DetectionResponse]
    model: ModelResponse
    tiles: int = Field(description="Tiles inferred.")
    truncated: bool = Field(description="A tile reached its limit of objects, so that some may be missing.")
    failure: str | None = Field(description="Why there is no result; null if the image was searched.")
    remarks: list[str] = Field(description="Decisions in reading the image, such as how 16 bits were scaled to 8.")


class ImagesResponse(_Response):
    """The detections in several images, in the order of the files."""

    results: list[ImageResponse]


class SummaryResponse(_Response):
    """The totals of a streamed response."""

    complete: bool = Field(description="Every image was searched or has a failure.")
    images: int
    failed: int
    tiles: int
    detections: int
    problem: Problem | None = Field(description="Why the response is not complete.")


class ImageLine(ImageResponse):
    """One image of a streamed response."""

    index: int = Field(description="Position among the files, from 0.")


class SummaryLine(_Response):
    """The last line of a streamed response."""

    summary: SummaryResponse


class NdjsonLineResponse(RootModel[ImageLine | SummaryLine]):
    """One line of a streamed response."""


class RejectedVersionResponse(_Response):
    """A version that could not be served."""

    version: str
    run_id: str
    reason: str
    attempts: int
    last_attempt: datetime
    retry_after_seconds: float = Field(description="Pause between the last attempt and the next.")


class VariantResponse(_Response):
    """A faster precision in the package, with its measured differences from fp32 on the validation images."""

    precision: str
    map50_95_change: float
    recall_change: float
    count_error: float = Field(description="Difference in detections as a share of the labelled objects.")
    images: int
    objects: int
    speedup: float = Field(description="Throughput relative to fp32, on the training machine.")


class FollowerStatusResponse(_Response):
    """The state of the alias follower."""

    poll_seconds: float
    last_poll: datetime | None
    last_success: datetime | None
    last_error: str | None = Field(description="Why the last poll failed; null if it succeeded.")
    refused: list[RejectedVersionResponse]


class ServedModelResponse(_Response):
    """The served model and the state of the alias follower."""

    ready: bool
    name: str
    alias: str
    version: str | None = None
    run_id: str | None = None
    architecture: str | None = None
    image_size: int | None = None
    class_names: list[str] = []
    metrics: dict[str, float] = {}
    class_metrics: dict[str, dict[str, float]] = {}
    conf: Annotated[float | None, Field(description="Default minimum score; a request may override it.")] = None
    iou: Annotated[float | None, Field(description="IoU threshold for duplicates.")] = None
    training_gsd_m: Annotated[float | None, Field(description="Metres per pixel of the training images, if known.")] = (
        None
    )
    dataset_digest: str | None = None
    backend: str | None = None
    precision: Annotated[
        str | None, Field(description="Precision of the inference: fp32, bf16, int8, fp16 or tf32.")
    ] = None
    variants: Annotated[
        list[VariantResponse], Field(description="The package's faster precisions that passed their limits.")
    ] = []
    loaded_at: datetime | None = None
    from_cache: Annotated[
        bool | None, Field(description="Loaded from the local cache because MLflow was unavailable.")
    ] = None
    following: FollowerStatusResponse


class Health(_Response):
    """The process or the model is well."""

    status: Literal["ok"] = "ok"


# Fields of a variant that the API omits: the package's files, and the limits it was tested against.
_UNPUBLISHED_FIELDS = {"files", "limits"}


def served_model_response(service: Service) -> ServedModelResponse:
    """Return the state of `service` for GET /v1/model."""
    settings, state = service.settings, service.follower.state
    following = FollowerStatusResponse(
        poll_seconds=settings.poll_seconds,
        last_poll=state.last_poll,
        last_success=state.last_success,
        last_error=None if state.last_error is None else redact_locations(state.last_error),
        refused=[_rejected(version) for version in state.rejected],
    )
    response = ServedModelResponse(
        ready=False, name=settings.model_name, alias=settings.model_alias, following=following
    )
    model = service.slot.current
    if model is None:
        return response
    manifest = model.detector.manifest
    return response.model_copy(
        update={
            "ready": True,
            "version": model.resolved.version,
            "run_id": model.resolved.run_id,
            "architecture": manifest.architecture,
            "image_size": manifest.image_size,
            "class_names": list(manifest.names),
            "metrics": manifest.metrics,
            "class_metrics": manifest.class_metrics,
            "conf": manifest.conf if settings.conf is None else settings.conf,
            "iou": manifest.iou if settings.iou is None else settings.iou,
            "training_gsd_m": manifest.training_gsd_m,
            "dataset_digest": manifest.dataset_digest,
            "backend": model.detector.backend,
            "precision": model.detector.precision,
            "variants": [
                VariantResponse(**variant.model_dump(exclude=_UNPUBLISHED_FIELDS)) for variant in manifest.variants
            ],
            "loaded_at": model.loaded_at,
            "from_cache": model.from_cache,
        }
    )


def _rejected(rejected: RejectedVersion) -> RejectedVersionResponse:
    return RejectedVersionResponse(
        version=rejected.version,
        run_id=rejected.run_id,
        reason=redact_locations(rejected.reason),
        attempts=rejected.attempts,
        last_attempt=rejected.last_attempt,
        retry_after_seconds=rejected.retry_after_s,
    )
