"""The parts of the interface's description that FastAPI does not write by itself."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from transect.serving.http.deadline import TIMEOUT_HEADER

BINARY: dict[str, Any] = {"type": "string", "format": "binary"}
TIMEOUT_PARAMETER: dict[str, Any] = {
    "name": TIMEOUT_HEADER,
    "in": "header",
    "required": False,
    "description": "Seconds after which nobody waits for the answer any more; at most TRANSECT_DEADLINE_SECONDS.",
    "schema": {"type": "number", "exclusiveMinimum": 0},
}
# A green PNG of one pixel, for examples that can be sent as they stand.
TINY_IMAGE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR42mNwaHAAAAIEAQFjA9c5AAAAAElFTkSuQmCC"
_GENERATED = ("HTTPValidationError", "ValidationError")


def inlined(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON schema of `model`, which must not contain itself, with nothing outside of it."""
    schema = model.model_json_schema()
    definitions = schema.pop("$defs", {})

    def resolved(part: Any) -> Any:
        if isinstance(part, list):
            return [resolved(item) for item in part]
        if not isinstance(part, dict):
            return part
        rest = {key: resolved(value) for key, value in part.items() if key != "$ref"}
        if "$ref" not in part:
            return rest
        return {**resolved(definitions[part["$ref"].rpartition("/")[2]]), **rest}

    whole: dict[str, Any] = resolved(schema)
    return whole


def describe_honestly(app: FastAPI) -> None:
    """Leave out of the description of `app` the answers that FastAPI supposes and this service never gives."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _without_supposed(
                get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            )
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to change it


def _without_supposed(schema: dict[str, Any]) -> dict[str, Any]:
    for path in schema["paths"].values():
        for operation in path.values():
            supposed = operation["responses"].get("422", {}).get("content", {}).get("application/json", {})
            if supposed.get("schema", {}).get("$ref", "").endswith(_GENERATED[0]):
                del operation["responses"]["422"]
    for name in _GENERATED:
        schema.get("components", {}).get("schemas", {}).pop(name, None)
    return schema
