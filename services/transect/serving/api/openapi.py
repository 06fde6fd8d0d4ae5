"""The parts of the OpenAPI schema that FastAPI does not generate, or generates wrongly."""

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
    "description": "Seconds after which the request is abandoned; at most TRANSECT_DEADLINE_SECONDS.",
    "schema": {"type": "number", "exclusiveMinimum": 0},
}
# A green PNG of one pixel, so that the examples can be sent unchanged.
TINY_IMAGE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR42mNwaHAAAAIEAQFjA9c5AAAAAElFTkSuQmCC"
_GENERATED = ("HTTPValidationError", "ValidationError")


def inline_refs(model: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON schema of `model` with all $refs inlined; the model must not be recursive."""
    schema = model.model_json_schema()
    definitions = schema.pop("$defs", {})

    def inline(part: Any) -> Any:
        if isinstance(part, list):
            return [inline(item) for item in part]
        if not isinstance(part, dict):
            return part
        rest = {key: inline(value) for key, value in part.items() if key != "$ref"}
        if "$ref" not in part:
            return rest
        return {**inline(definitions[part["$ref"].rpartition("/")[2]]), **rest}

    inlined: dict[str, Any] = inline(schema)
    return inlined


def install_openapi(app: FastAPI) -> None:
    """Make `app` serve an OpenAPI schema without FastAPI's default 422 responses, which this service never sends."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _without_default_422(
                get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            )
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to change it


def _without_default_422(schema: dict[str, Any]) -> dict[str, Any]:
    for path in schema["paths"].values():
        for operation in path.values():
            default = operation["responses"].get("422", {}).get("content", {}).get("application/json", {})
            if default.get("schema", {}).get("$ref", "").endswith(_GENERATED[0]):
                del operation["responses"]["422"]
    for name in _GENERATED:
        schema.get("components", {}).get("schemas", {}).pop(name, None)
    return schema
