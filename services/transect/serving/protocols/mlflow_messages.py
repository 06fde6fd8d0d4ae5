"""Requests of MLflow's scoring protocol to POST /invocations, parsed without pandas.

The four JSON formats and CSV are those of mlflow/pyfunc/scoring_server in MLflow 3.
"""

import csv
import io
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from transect.errors import ImageError
from transect.serving.detection.params import DetectQuery
from transect.serving.http.problems import ProblemError
from transect.serving.http.request_body import ImageInput, RequestLimits, Upload
from transect.serving.protocols.given_images import (
    ProtocolRequest,
    first_error,
    from_base64,
    refuse_too_many,
    rgb_images,
)

_COLUMN = "image"
_FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")
_JSON, _CSV = "application/json", "text/csv"
# Python's default limit of 128 kB is smaller than a photo; the body's size is already limited.
csv.field_size_limit(1 << 30)


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class SplitTable(_Part):
    """A table in pandas' format orient="split"; the images are in the column `image`, else in the first."""

    data: list[list[Any]]
    columns: list[Any] | None = None
    index: list[Any] | None = None


class ScoringParameters(_Part):
    """Options of the detection, as those of POST /v1/detect; `timeout` in seconds."""

    conf: Annotated[float | None, Field(ge=0, le=1)] = None
    tile: int | str | None = None
    classes: tuple[str, ...] | str = ()
    timeout: Annotated[float | None, Field(gt=0, allow_inf_nan=False)] = None


class ScoringMessage(_Part):
    """Exactly one of the four formats. An image is base64 text (or {"b64": text}), or RGB as lists (H, W, 3)."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": [form]} for form in _FORMS]})

    # The defaults are never read; `model_fields_set` has the format that was sent.
    dataframe_split: SplitTable = SplitTable(data=[])
    dataframe_records: list[dict[str, Any]] = []
    instances: list[Any] = []
    inputs: list[Any] | dict[str, Any] | str = []
    params: ScoringParameters = ScoringParameters()


def parse_scoring(body: bytes, content_type: str, limits: RequestLimits) -> ProtocolRequest:
    """Parse a request; an invalid image is replaced by its ImageError.

    Raises ProblemError: 400 for an invalid body, 413 for more images than `limits` allow, 415 for another content type.
    """
    media_type, _, parameters = (part.strip().lower() for part in content_type.partition(";"))
    charset = parameters.partition("charset=")[2].strip('" ') or "utf-8"
    if media_type not in (_JSON, _CSV) or charset not in ("utf-8", "utf8"):
        raise ProblemError(
            415, "media-type", f"The body is {content_type or 'of no stated type'}; send {_JSON} or {_CSV} in UTF-8."
        )
    if media_type == _CSV:
        values, query = _from_csv(body), DetectQuery()
    else:
        values, query = _from_json(body)
    refuse_too_many(len(values), limits.images)
    return ProtocolRequest(query, [_image(value, f"image {number}") for number, value in enumerate(values)])


def _query(params: ScoringParameters) -> DetectQuery:
    return DetectQuery(
        conf=params.conf,
        tile=None if params.tile is None else str(params.tile),
        classes=(params.classes,) if isinstance(params.classes, str) else params.classes,
        timeout=params.timeout,
    )


def _from_json(body: bytes) -> tuple[list[Any], DetectQuery]:
    try:
        message = ScoringMessage.model_validate_json(body)
        query = _query(message.params)
    except ValidationError as error:
        raise _invalid(first_error(error, "The body")) from None
    forms = sorted(message.model_fields_set & set(_FORMS))
    if len(forms) != 1:
        raise _invalid(f"The body has {' and '.join(forms) or 'no input'}; give exactly one of {', '.join(_FORMS)}")
    if forms == ["dataframe_split"]:
        return _column(message.dataframe_split.columns, message.dataframe_split.data), query
    if forms == ["dataframe_records"]:
        return _from_records(message.dataframe_records), query
    values: Any = message.instances if forms == ["instances"] else message.inputs
    if isinstance(values, dict) and set(values) != {"b64"}:
        return _as_list(_image_column(values)), query
    if isinstance(values, list) and values and all(_is_record(value) for value in values):
        return _from_records(values), query
    return _as_list(values), query


def _from_csv(body: bytes) -> list[Any]:
    try:
        rows = list(csv.reader(io.StringIO(body.decode("utf-8-sig"), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise _invalid(f"The body is not CSV in UTF-8: {error}") from None
    if not rows:
        raise _invalid("The CSV is empty; its first line names the columns")
    return _column(rows[0], [row for row in rows[1:] if row])


def _column(columns: Sequence[Any] | None, rows: Sequence[Sequence[Any]]) -> list[Any]:
    position = list(columns).index(_COLUMN) if columns and _COLUMN in columns else 0
    return [row[position] if position < len(row) else None for row in rows]


def _from_records(records: Sequence[dict[str, Any]]) -> list[Any]:
    column = _COLUMN if not records or _COLUMN in records[0] else next(iter(records[0]), _COLUMN)
    return [record.get(column) for record in records]


def _image_column(columns: dict[str, Any]) -> Any:
    if not columns:
        raise _invalid("The table has no column")
    return columns.get(_COLUMN, next(iter(columns.values())))


def _is_record(value: Any) -> bool:
    return isinstance(value, dict) and set(value) != {"b64"}


def _as_list(values: Any) -> list[Any]:
    """Return the images as a list, also for one image: base64 text or the rows of an RGB array."""
    if not isinstance(values, list):
        return [values]
    return [values] if _depth(values) == 3 else values


def _depth(value: Any) -> int:
    depth = 0
    while isinstance(value, list):
        value, depth = (value[0] if value else None), depth + 1
    return depth


def _image(value: Any, name: str) -> ImageInput:
    if isinstance(value, dict) and set(value) == {"b64"}:
        value = value["b64"]
    if isinstance(value, str):
        return from_base64(value, name)
    if not isinstance(value, list):
        return ImageError(f"{name} is {'missing' if value is None else f'a {type(value).__name__}'}; send base64 text.")
    try:
        pixels = rgb_images(value)
    except ImageError as error:
        return ImageError(f"{name}: {error}")
    if len(pixels) != 1:
        return ImageError(f"{name} is several images; give RGB of shape (H, W, 3).")
    return Upload(name, pixels[0])


def _invalid(detail: str) -> ProblemError:
    return ProblemError(400, "scoring-request", f"{detail.rstrip('.')}.")
