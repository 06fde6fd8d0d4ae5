"""The shapes of the service's answers, for OpenAPI and for building them."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel

from transect.serving.detection.service import Service
from transect.serving.http.disclosure import without_places
from transect.serving.http.problems import MEDIA_TYPE
from transect.serving.models.alias_follower import Refusal


class Problem(BaseModel):
    """An error (RFC 9457)."""

    type: str = Field(description="Kind of the problem, for programs: urn:transect:problem:KIND.")
    title: str
    status: int
    detail: str = Field(description="What is wrong and what to do.")
    instance: str
    request_id: str


def problems(descriptions: dict[int, str]) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that answers with these statuses as problem+json."""
    content = {MEDIA_TYPE: {"schema": Problem.model_json_schema()}}
    return {status: {"description": text, "content": content} for status, text in descriptions.items()}


class _Answer(BaseModel):
    model_config = ConfigDict(protected_namespaces=())


class DetectionAnswer(_Answer):
    """One object."""

    box: Annotated[
        tuple[float, float, float, float], Field(description="x1, y1, x2, y2 in pixels of the original image.")
    ]
    score: float
    class_id: int
    class_name: str


class ModelAnswer(_Answer):
    """The model that made an answer."""

    name: str
    version: str
    run_id: str
    precision: str = Field(description="What inference ran in: fp32, bf16, int8, fp16 or tf32.")


class ImageAnswer(_Answer):
    """What was found in one image."""

    image: str = Field(description="Name of the image as it was sent.")
    width: int
    height: int
    detections: list[DetectionAnswer]
    model: ModelAnswer
    tiles: int = Field(description="Inferences made.")
    truncated: bool = Field(description="A tile reached its limit of objects, so that some may be missing.")
    failure: str | None = Field(description="Why there is no result; null where the image was searched.")
    remarks: list[str] = Field(description="What was decided in reading the image, such as how 16 bits are shown.")


class ImagesAnswer(_Answer):
    """What was found in several images, in the order they were sent."""

    results: list[ImageAnswer]


class SummaryAnswer(_Answer):
    """How a streamed answer ended."""

    complete: bool = Field(description="Every image was searched or has its failure.")
    images: int
    failed: int
    tiles: int
    detections: int
    problem: Problem | None = Field(description="Why the answer is not complete.")


class ImageLine(ImageAnswer):
    """One image of a streamed answer."""

    index: int = Field(description="Place among the files that were sent, from 0.")


class SummaryLine(_Answer):
    """The last line of a streamed answer."""

    summary: SummaryAnswer


class LineAnswer(RootModel[ImageLine | SummaryLine]):
    """One line of a streamed answer."""


class RefusedAnswer(_Answer):
    """A version that could not be served."""

    version: str
    run_id: str
    reason: str
    attempts: int
    last_attempt: datetime
    retry_after_seconds: float = Field(description="Pause between the last attempt and the next.")


class VariantAnswer(_Answer):
    """A faster precision in the package, with what it was measured to change against fp32 on the validation images."""

    precision: str
    map50_95_change: float
    recall_change: float
    count_error: float = Field(description="Difference in detections as a share of the labelled objects.")
    images: int
    objects: int
    speedup: float = Field(description="Throughput over that of fp32, on the machine that trained.")


class FollowingAnswer(_Answer):
    """How the following of the alias goes."""

    poll_seconds: float
    last_poll: datetime | None
    last_success: datetime | None
    last_error: str | None = Field(description="Why the last poll failed; null when it did not.")
    refused: list[RefusedAnswer]


class ServedAnswer(_Answer):
    """The served model, and how the following of its alias goes."""

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
    conf: Annotated[float | None, Field(description="Least score in force unless a request says otherwise.")] = None
    iou: Annotated[float | None, Field(description="IoU of duplicates in force.")] = None
    training_gsd_m: Annotated[float | None, Field(description="Metres a pixel of the training images, if known.")] = (
        None
    )
    dataset_digest: str | None = None
    backend: str | None = None
    precision: Annotated[str | None, Field(description="What inference runs in: fp32, bf16, int8, fp16 or tf32.")] = (
        None
    )
    variants: Annotated[
        list[VariantAnswer], Field(description="The faster precisions of the package; only those that passed.")
    ] = []
    loaded_at: datetime | None = None
    from_cache: Annotated[bool | None, Field(description="Loaded from the local cache because MLflow was away.")] = None
    following: FollowingAnswer


class Health(_Answer):
    """The process or the model is well."""

    status: Literal["ok"] = "ok"


# Of a variant: what is about the package's files, and what it was held to.
_NOT_TOLD = {"files", "limits"}


def describe(service: Service) -> ServedAnswer:
    """The state of `service` for GET /v1/model."""
    settings, state = service.settings, service.follower.state
    following = FollowingAnswer(
        poll_seconds=settings.poll_seconds,
        last_poll=state.last_poll,
        last_success=state.last_success,
        last_error=None if state.last_error is None else without_places(state.last_error),
        refused=[_refused(refusal) for refusal in state.refused],
    )
    answer = ServedAnswer(ready=False, name=settings.model_name, alias=settings.model_alias, following=following)
    model = service.slot.current
    if model is None:
        return answer
    manifest = model.detector.manifest
    return answer.model_copy(
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
            "variants": [VariantAnswer(**variant.model_dump(exclude=_NOT_TOLD)) for variant in manifest.variants],
            "loaded_at": model.loaded_at,
            "from_cache": model.from_cache,
        }
    )


def _refused(refusal: Refusal) -> RefusedAnswer:
    return RefusedAnswer(
        version=refusal.version,
        run_id=refusal.run_id,
        reason=without_places(refusal.reason),
        attempts=refusal.attempts,
        last_attempt=refusal.last_attempt,
        retry_after_seconds=refusal.retry_after_s,
    )
