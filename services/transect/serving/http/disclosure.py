"""What strangers are not told: where things lie on this machine, and which servers it asks. The log has it whole."""

import re

_HIDDEN = "(in the log)"
# Addresses with ://, and paths from the root of a file system; not what the service itself has at /v1, and not
# models:/ and runs:/, which name things in the registry.
_ADDRESS = re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s'\",;)]+?(?=[.:]?(?:[\s'\",;)]|$))", re.IGNORECASE)
_PATH = re.compile(r"(?<![\w:/.@-])/(?!v[12]\b)(?:[^\s/'\",;:()]+/)+[^\s/'\",;:()]*?(?=[.:]?(?:[\s'\",;:()]|$))")


def without_places(text: str) -> str:
    """The text with `(in the log)` in place of every address and absolute path."""
    return _PATH.sub(_HIDDEN, _ADDRESS.sub(_HIDDEN, text))
