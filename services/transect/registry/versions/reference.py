"""Model references: the forms a user may write, and their parser."""

import re
from dataclasses import dataclass

from transect.errors import RegistryError

_NAME = r"[^/:@\s]+"
# A number alone is a version, so an alias needs another character.
_ALIAS = r"(?=[0-9]*[A-Za-z_-])[A-Za-z0-9_-]+"
_FORMS = (
    re.compile(rf"models:/(?P<name>{_NAME})@(?P<alias>{_ALIAS})"),
    re.compile(rf"models:/(?P<name>{_NAME})/(?P<version>[1-9]\d*)"),
    re.compile(rf"(?P<name>{_NAME})?@(?P<alias>{_ALIAS})"),
    re.compile(rf"(?P<name>{_NAME})/(?P<version>[1-9]\d*)"),
    re.compile(r"(?P<version>[1-9]\d*)"),
    re.compile(rf"(?P<alias>{_ALIAS})"),
)


@dataclass(frozen=True)
class Reference:
    """A model name with either an alias or a version number."""

    name: str
    alias: str | None = None
    version: str | None = None

    def __str__(self) -> str:
        """The form that every MLflow client understands."""
        return f"models:/{self.name}@{self.alias}" if self.alias else f"models:/{self.name}/{self.version}"


def parse_reference(text: str, default_name: str) -> Reference:
    """Read `models:/NAME@ALIAS`, `models:/NAME/3`, `NAME@ALIAS`, `NAME/3`, `@ALIAS`, `ALIAS` or `3`.

    Forms without a name mean the model `default_name`. Raises RegistryError for anything else, including
    MLflow's stages (`models:/NAME/Production`), which aliases replaced.
    """
    for form in _FORMS:
        if found := form.fullmatch(text.strip()):
            parts = found.groupdict()
            return Reference(
                name=parts.get("name") or default_name, alias=parts.get("alias"), version=parts.get("version")
            )
    raise RegistryError(
        f"{text!r} does not name a model version; write an alias (production), a version (3), "
        f"models:/{default_name}@production or models:/{default_name}/3."
    )
