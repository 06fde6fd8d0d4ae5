"""Read the settings from the environment and `.env`."""

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dotenv import dotenv_values
from pydantic import ValidationError

from transect.errors import SettingsError
from transect.settings.program import Settings
from transect.settings.stack import STACK_VARIABLES


def load_settings(environ: Mapping[str, str] | None = None, env_file: Path | None = Path(".env")) -> Settings:
    """Read the settings from `environ` (default: the process environment) and `env_file`.

    Raises SettingsError, with the variable's name, for an unknown TRANSECT_ name or a bad value.
    An empty value means the default.
    """
    values: dict[str, str] = {}
    if env_file is not None and env_file.is_file():
        values.update({k: v for k, v in dotenv_values(env_file).items() if v is not None})
    values.update(os.environ if environ is None else environ)
    known = {str(field.alias) for field in Settings.model_fields.values()}
    _refuse_unknown(values, known | {variable.name for variable in STACK_VARIABLES})
    present: dict[str, Any] = {name: values[name] for name in known if values.get(name, "") != ""}
    try:
        return Settings.model_validate(present)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        reason = first["msg"].removeprefix("Value error, ")
        secret = any(field.alias == name and field.repr is False for field in Settings.model_fields.values())
        shown = name if secret else f"{name}={present[name]!r}"
        raise SettingsError(f"{shown} is not usable: {reason}. See docs/environment.md.") from error


# Variables of older versions, and their replacements.
_REMOVED = {"TRANSECT_PIXEL_BUDGET": "TRANSECT_DECODE_MB, in MiB, bounds what decoding holds"}


def _refuse_unknown(values: Mapping[str, str], known: set[str]) -> None:
    for name in sorted(values):
        if name in _REMOVED and values[name]:
            raise SettingsError(f"Environment variable {name} was removed: {_REMOVED[name]}. See docs/environment.md.")
        if name in _REMOVED:
            continue
        if name.startswith("TRANSECT_") and name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else "; docs/environment.md lists them all."
            raise SettingsError(f"Environment variable {name} is not one of Transect's{hint}")
