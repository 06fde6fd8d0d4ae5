"""Validate configuration files with pydantic models; an error is one sentence with its line and column."""

import types
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, ValidationInfo, field_validator

from transect.config_files import YamlMapping, unknown_key
from transect.errors import TransectError


class ConfigModel(BaseModel):
    """A section of a user-written file: rejects unknown keys, and booleans as numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    @field_validator("*", mode="before")
    @classmethod
    def _no_number_from_a_word(cls, value: Any, info: ValidationInfo) -> Any:
        # pydantic accepts true as 1.
        if isinstance(value, bool) and info.field_name is not None:
            kinds = set(_kinds(cls.model_fields[info.field_name].annotation))
            if kinds & {int, float} and bool not in kinds:
                raise ValueError("input should be a number, and yes, no, true and false are none")
        return value


def _text_keys(value: Any) -> Any:
    return {str(key): one for key, one in value.items()} if isinstance(value, dict) else value


# The keys are names, and a name may be a number.
NameKeys = BeforeValidator(_text_keys)

Model = TypeVar("Model", bound=BaseModel)


def check(
    model: type[Model],
    document: YamlMapping,
    failure: type[TransectError],
    what: str = "this file",
    defaults: Mapping[str, Any] | None = None,
) -> Model:
    """Validate `document` as a `model`; `what` names it in errors (the gate), `defaults` are its missing values.

    Raises `failure` in one sentence: the file, the key, what is wrong, and its line and column.
    """
    try:
        return model.model_validate({**(defaults or {}), **document})
    except ValidationError as error:
        loc = error.errors()[0]["loc"]
        raise failure(f"{document.path}: {document.placed(first_problem(error, model, what), *loc)}") from error


def first_problem(error: ValidationError, model: type[BaseModel], what: str = "this file") -> str:
    """The first error of pydantic as `key: reason`, without a final full stop."""
    first = error.errors()[0]
    loc = first["loc"]
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).lstrip(".")
    if first["type"] == "extra_forbidden":
        clause = unknown_key(loc[-1], _known_keys(model, loc[:-1]), what)
        return f"{place}{clause.removeprefix(repr(str(loc[-1])))}"
    reason = first["msg"].removeprefix("Value error, ")
    if first["type"] == "model_type":
        reason = "it must hold `key: value` lines"
    value = first.get("input")
    shown = f" (it is {value!r})" if isinstance(value, str | int | float | bool) and place else ""
    return f"{place + ': ' if place else ''}{reason[:1].lower() + reason[1:]}{shown}"


def _known_keys(model: type[BaseModel], loc: tuple[str | int, ...]) -> set[str]:
    """The keys of the section that `loc` leads to."""
    found: list[type[BaseModel]] = [model]
    for part in loc:
        annotations = [
            field.annotation for one in found for name, field in one.model_fields.items() if part in {name, field.alias}
        ]
        # The key of a mapping's entry, or a list's index, does not descend.
        found = [kind for one in annotations for kind in _kinds(one) if _is_model(kind)] or found
    return {field.alias or name for one in found for name, field in one.model_fields.items()}


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _kinds(annotation: Any) -> list[Any]:
    """The plain types in an annotation, such as int and None of `Annotated[int, ...] | None`."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _kinds(get_args(annotation)[0])
    if origin in {Union, types.UnionType}:
        return [kind for one in get_args(annotation) for kind in _kinds(one)]
    if origin in {dict, tuple, list}:
        return [kind for one in get_args(annotation) for kind in _kinds(one) if _is_model(kind)]
    return [annotation]
