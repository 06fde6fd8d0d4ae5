"""The parts of the OpenAPI schema that FastAPI does not generate, or generates wrongly."""

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.encoders import jsonable_encoder
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from transect.serving.http.deadline import TIMEOUT_HEADER
from transect.serving.http.request_context import MODEL_VERSION

BINARY: dict[str, Any] = {"type": "string", "format": "binary"}
TIMEOUT_PARAMETER: dict[str, Any] = {
    "name": TIMEOUT_HEADER,
    "in": "header",
    "required": False,
    "description": "Seconds after which the request is abandoned; at most TRANSECT_DEADLINE_SECONDS.",
    "schema": {"type": "number", "exclusiveMinimum": 0},
}
MODEL_VERSION_PARAMETER: dict[str, Any] = {
    "name": MODEL_VERSION,
    "in": "header",
    "required": False,
    "description": "Only this version of the model may answer; 421 where another one is served.",
    "schema": {"type": "integer", "minimum": 1},
}
# A green PNG of one pixel, so that the examples can be sent unchanged.
TINY_IMAGE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR42mNwaHAAAAIEAQFjA9c5AAAAAElFTkSuQmCC"
_COMPONENT = "#/components/schemas/{model}"
_GENERATED = ("HTTPValidationError", "ValidationError")


def component_ref(model: type[BaseModel]) -> dict[str, Any]:
    """Return a reference to the schema of `model`, which `install_openapi` must be given."""
    return {"$ref": _COMPONENT.format(model=model.__name__)}


def install_openapi(app: FastAPI, models: Sequence[type[BaseModel]]) -> None:
    """Make `app` serve an OpenAPI schema that has `models`, which routes name by `component_ref`, as components.

    FastAPI's default 422 responses are left out, because this service never sends them.
    """

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            _, definitions = models_json_schema([(model, "validation") for model in models], ref_template=_COMPONENT)
            # FastAPI leaves nulls out of its own part.
            ours = jsonable_encoder(definitions["$defs"], exclude_none=True)
            schema["components"]["schemas"] = dict(sorted({**ours, **schema["components"]["schemas"]}.items()))
            app.openapi_schema = _without_default_422(schema)
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
