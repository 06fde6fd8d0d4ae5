"""Detection options from the query string."""

import re
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from transect.engine import DetectOptions
from transect.serving.http.problems import ProblemError
from transect.settings import Settings

_TILE = re.compile(r"auto|off|[1-9][0-9]{1,4}")
# Published in OpenAPI. The engine rejects sizes below 64 with its own message.
_TILE_PATTERN = "^(auto|off|6[4-9]|[7-9][0-9]|[1-9][0-9]{2,4})$"


class DetectQuery(BaseModel):
    """Options of POST /v1/detect; unknown names are rejected, so that no typing error is ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tile: Annotated[
        str | None,
        Field(
            description="auto tiles large images at the model's own size, off never tiles, N takes tiles of N pixels. "
            "Default: TRANSECT_TILE.",
            json_schema_extra={"pattern": _TILE_PATTERN},
        ),
    ] = None
    conf: Annotated[
        float | None,
        Field(ge=0, le=1, description="Minimum score. Default: TRANSECT_CONF, else the model's recommended score."),
    ] = None
    classes: Annotated[
        tuple[str, ...], Field(description="Only these classes: separated by commas, or as repeated parameters.")
    ] = ()
    format: Annotated[
        Literal["json", "image", "ndjson"] | None,
        Field(
            description="json (the default), image: the one image as JPEG with its boxes drawn, ndjson: a line of JSON "
            "for each image as soon as it is done, also requested with Accept: application/x-ndjson."
        ),
    ] = None
    timeout: Annotated[
        float | None,
        Field(
            gt=0,
            allow_inf_nan=False,
            description="Seconds after which the request is abandoned; at most TRANSECT_DEADLINE_SECONDS.",
        ),
    ] = None

    @field_validator("tile")
    @classmethod
    def _tile_is_sensible(cls, value: str | None) -> str | None:
        if value is not None and not _TILE.fullmatch(value):
            raise ValueError("must be auto, off or a whole number of pixels")
        return value


def detect_options(query: DetectQuery, settings: Settings, names: tuple[str, ...]) -> DetectOptions:
    """Combine the query's options with the settings; None leaves an option to the model package.

    `names` are the served model's classes; ProblemError (422) for any other class.
    """
    tile = settings.tile if query.tile is None else _tile(query.tile)
    return DetectOptions(
        conf=settings.conf if query.conf is None else query.conf,
        iou=settings.iou,
        classes=_classes(query.classes, names),
        tile=tile,
        overlap=settings.tile_overlap,
    )


def _tile(value: str) -> Literal["auto", "off"] | int:
    if value == "auto":
        return "auto"
    return "off" if value == "off" else int(value)


def _classes(values: tuple[str, ...], names: tuple[str, ...]) -> frozenset[str] | None:
    wanted: set[str] = set()
    for item in values:
        # A class name may itself contain a comma.
        wanted.update([item] if item in names else [part.strip() for part in item.split(",") if part.strip()])
    unknown = sorted(wanted - set(names))
    if unknown:
        detail = f"The model has no class {unknown[0]!r}; its classes are {', '.join(names)}."
        raise ProblemError(422, "class", detail)
    return frozenset(wanted) or None
