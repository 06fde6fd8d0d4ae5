"""Redaction of file paths and server addresses in responses to clients. The log has the full text."""

import re

_HIDDEN = "(in the log)"
# URLs with ://, and absolute file paths. Not routes below /v1 and /v2, and not models:/ and runs:/, which are registry
# references.
_ADDRESS = re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s'\",;)]+?(?=[.:]?(?:[\s'\",;)]|$))", re.IGNORECASE)
_PATH = re.compile(r"(?<![\w:/.@-])/(?!v[12]\b)(?:[^\s/'\",;:()]+/)+[^\s/'\",;:()]*?(?=[.:]?(?:[\s'\",;:()]|$))")


def redact_locations(text: str) -> str:
    """Return `text` with every URL and absolute path replaced by `(in the log)`."""
    return _PATH.sub(_HIDDEN, _ADDRESS.sub(_HIDDEN, text))
