"""The table of environment variables, rendered as `.env.example` and docs/environment.md."""

from dataclasses import dataclass

from transect.settings.program import Settings
from transect.settings.stack import STACK_SECRETS, STACK_VARIABLES


@dataclass(frozen=True)
class Variable:
    """One row of the table of environment variables."""

    name: str
    default: str
    help: str
    secret: bool


def variables() -> tuple[Variable, ...]:
    """All environment variables of Transect and its stack, in the order of the docs."""
    own = tuple(
        Variable(
            str(field.alias),
            "" if field.default is None else str(field.default),
            str(field.description),
            secret=field.repr is False,
        )
        for field in Settings.model_fields.values()
    )
    return own + tuple(Variable(v.name, v.default, v.help, v.secret) for v in STACK_VARIABLES)


def as_env_example() -> str:
    """The text of `.env.example`."""
    lines = [
        "# Copied to .env by `make up`, which fills the empty secrets with random ones (mode 600).",
        "# A real environment variable wins over this file. docs/environment.md has the same table.",
        "# This file is printed by `transect settings --env`.",
    ]
    for variable in variables():
        value = "" if variable.secret else variable.default
        # A commented line shows the default; a secret of the stack is uncommented, to be filled in.
        ready = variable.name in STACK_SECRETS
        lines += ["", f"# {variable.help}", f"{variable.name}=" if ready else f"# {variable.name}={value}"]
    return "\n".join(lines) + "\n"


def as_markdown() -> str:
    """The table of docs/environment.md."""
    rows = ["| variable | default | what it does |", "|---|---|---|"]
    for variable in variables():
        default = "secret, none" if variable.secret else f"`{variable.default}`" if variable.default else "empty"
        rows.append(f"| `{variable.name}` | {default} | {variable.help} |")
    return "\n".join(rows) + "\n"
