"""Create .env from .env.example if missing, and fill its empty secrets with random values.

Standard library only, since it runs before anything is installed. A secret is a variable that is
uncommented and empty in .env.example. The file is written atomically, with mode 600.
"""

import base64
import binascii
import os
import re
import secrets
import tempfile
from collections.abc import Mapping
from pathlib import Path

# Common placeholders, and a few defaults of the programs.
PLACEHOLDERS = re.compile(
    r"change[-_ ]?(me|this|it)?|(your|my|a|the)?[-_ ]?(password|passwd|secret|key|token)\d*"
    r"|admin\d*|minioadmin|postgres|mlflow|transect|example|placeholder|default|todo|fixme|test\d*|x{3,}|\*{3,}|<.*>"
    r"|1234567\d*|qwerty.*|password1234",
    re.IGNORECASE,
)
LEAST_LENGTH = 12  # MLflow's minimum for passwords
# Fernet keys: 32 bytes in URL-safe base64, with padding. MLflow fails with any other text.
FERNET_KEYS = frozenset({"MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY"})
FERNET_BYTES = 32
_ASSIGNMENT = re.compile(r"^(?:export\s+)?([A-Z][A-Z0-9_]*)=(.*)$")


class PlaceholderError(Exception):
    """A secret is a placeholder, or too short to be one."""


def secret_names(example: str) -> list[str]:
    """The secrets of the stack, in the order of .env.example."""
    return [name for name, value in assignments(example).items() if not value]


def fill(text: str, example: str, environ: Mapping[str, str]) -> tuple[str, list[str]]:
    """The text of .env with every empty secret filled, and the names of those that were.

    A secret in `environ` is not filled, because environment variables take precedence. Raises
    PlaceholderError for a user-written secret that is a placeholder.
    """
    present = assignments(text)
    filled = []
    for name in secret_names(example):
        value = environ.get(name) or present.get(name, "")
        if value:
            _refuse_placeholder(name, value)
            continue
        filled.append(name)
        line = f"{name}={_random(name)}"
        if name in present:
            text = re.sub(rf"(?m)^(?:export\s+)?{name}=.*$", line, text)
        else:
            text = f"{text.rstrip()}\n\n{line}\n"
    return text, filled


def fill_file(folder: Path, environ: Mapping[str, str]) -> list[str]:
    """Prepare `folder`/.env for the stack; returns the names of the generated secrets."""
    target = folder / ".env"
    example = (folder / ".env.example").read_text(encoding="utf-8")
    old = target.read_text(encoding="utf-8") if target.exists() else example
    text, filled = fill(old, example, environ)
    if filled or not target.exists():
        _write_private(target, text)
    else:
        target.chmod(0o600)
    return filled


def empty_secrets(folder: Path, environ: Mapping[str, str]) -> list[str]:
    """The secrets that `fill_file` would generate; writes nothing."""
    example, target = folder / ".env.example", folder / ".env"
    present = assignments((target if target.exists() else example).read_text(encoding="utf-8"))
    names = secret_names(example.read_text(encoding="utf-8"))
    return [name for name in names if not (environ.get(name) or present.get(name))]


def _random(name: str) -> str:
    if name in FERNET_KEYS:
        return base64.urlsafe_b64encode(secrets.token_bytes(FERNET_BYTES)).decode()
    return secrets.token_urlsafe(24)


def assignments(text: str) -> dict[str, str]:
    """The variables that a text in the form of .env sets."""
    found = {}
    for line in text.splitlines():
        if match := _ASSIGNMENT.match(line.strip()):
            found[match[1]] = match[2].strip().strip("\"'")
    return found


def _refuse_placeholder(name: str, value: str) -> None:
    if PLACEHOLDERS.fullmatch(value):
        raise PlaceholderError(
            f"{name} is a placeholder, which protects nothing; leave it empty in .env and `make up` makes a random one."
        )
    if len(value) < LEAST_LENGTH:
        raise PlaceholderError(
            f"{name} has less than {LEAST_LENGTH} characters; leave it empty in .env and `make up` makes a random one."
        )
    if name in FERNET_KEYS and not _is_fernet_key(value):
        raise PlaceholderError(
            f"{name} is no key of 32 bytes in URL-safe base64; leave it empty in .env and `make up` makes a random one."
        )


def _is_fernet_key(value: str) -> bool:
    try:
        return len(base64.b64decode(value, altchars=b"-_", validate=True)) == FERNET_BYTES
    except (binascii.Error, ValueError):
        return False


def _write_private(target: Path, text: str) -> None:
    # mkstemp makes the file private before it contains a secret.
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=".env.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        Path(name).replace(target)
    finally:
        Path(name).unlink(missing_ok=True)
