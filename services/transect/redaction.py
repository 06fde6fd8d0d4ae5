"""Redact secrets in published data: diffs, command lines, tags, parameters and text files.

Standard library only, because docker/stack uses it before anything is installed. A secret is recognised by its form
(tokens of well-known services, keys, URLs with a password) or by the name before it (`password=...`). False positives
are preferred to false negatives, and a placeholder replaces what was removed.
"""

import base64
import binascii
import re
import shlex
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath

# A plain word, so that YAML, JSON, URLs and shell commands stay valid.
HIDDEN = "REDACTED"
# Options of `git diff` that override the user's configuration of prefixes and filters.
DIFF_OPTIONS = (
    *("--binary", "--no-color", "--no-ext-diff", "--no-textconv"),
    *("--src-prefix=a/", "--dst-prefix=b/"),
)

# All repetitions are bounded: a diff may have lines of megabytes, and matching must stay linear.
_NAMES = (
    r"(?:password|passwd|passphrase|(?<![a-z])pass|(?<![a-z])pwd|secret|token|credential|authorization|"
    r"(?:api|access|private|auth|account|encryption|signing)[_-]?key)"
)
# `MLFLOW_TRACKING_PASSWORD`, `apiKey`, `secret_access_key`; not `passenger` or `tokenizer`.
_NAMED = rf"{_NAMES}s?(?:[_-][a-z0-9]{{1,40}}){{0,4}}"
_SECRET_NAME = re.compile(rf"[\w.-]*{_NAMED}", re.IGNORECASE)
# A literal and not code: in quotes, or a word without calls and indexing.
_LITERAL = (
    r"(?:\"[^\"\n]{4,}\"|'[^'\n]{4,}'"
    r"|(?:(?:Bearer|Basic)[ ]+)?[^\s\"'(){}\[\]<>$,;]{6,}(?=$|[\s,;\"')}\]]))"
)
_ASSIGNED = re.compile(
    rf"(?P<before>{_NAMED}[\"']?[ \t]{{0,20}}(?:=>|:=|=(?!=)|:|(?=[ ][\"']))[ \t]{{0,20}})(?P<secret>{_LITERAL})",
    re.IGNORECASE | re.MULTILINE,
)
_OPTION = re.compile(
    rf"(?P<before>(?<![\w-])--?(?!-)[\w-]{{0,60}}?{_NAMED}(?:\s+|=))(?P<secret>\"[^\"\n]*\"|'[^'\n]*'|[^\s\"']+)",
    re.IGNORECASE,
)
# A password may contain @ and even /; a port is not a password.
_IN_URL = re.compile(
    r"(?P<before>\b[a-z][a-z0-9+.-]{0,30}://)"
    r"(?P<secret>[^\s/?#\"'<>:@]{0,200}:(?!\d{1,5}/)[^\s\"'<>]{0,500}(?=@)|[^\s/?#\"'<>]{1,500}(?=@))",
    re.IGNORECASE,
)
_IN_QUERY = re.compile(
    rf"(?P<before>[?&;](?:{_NAMED}|sig|signature|x-amz-signature|x-goog-signature|key|auth)=)(?P<secret>[^\s&;#\"']+)",
    re.IGNORECASE,
)
_TOKENS = re.compile(
    r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
    r"(?:(?:(?!-----)[\s\S]){0,20000}-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----)?"
    r"|PuTTY-User-Key-File-\d"
    r"|AGE-SECRET-KEY-1[0-9A-Z]{20,}"
    r"|\b(?:AKIA|ASIA|AGPA|AROA|AIDA)[0-9A-Z]{16}\b"
    r"|\bgh[pousr]_[A-Za-z0-9]{20,}"
    r"|\bgithub_pat_[A-Za-z0-9_]{20,}"
    r"|\bgl(?:pat|dt|rt|soat|cbt|ptt|ft|imt|agent)-[A-Za-z0-9_-]{16,}"
    r"|\bxox[abeoprs]-[A-Za-z0-9-]{10,}"
    r"|hooks\.slack\.com/services/[A-Za-z0-9/]{20,}"
    r"|\b[rsp]k_(?:live|test)_[A-Za-z0-9]{16,}"
    r"|\bAIza[A-Za-z0-9_-]{35}"
    r"|\bya29\.[A-Za-z0-9_-]{20,}"
    r"|\bhf_[A-Za-z0-9]{20,}"
    r"|\bsk-[A-Za-z0-9_-]{20,}"
    r"|\bpypi-[A-Za-z0-9_-]{20,}"
    r"|\bnpm_[A-Za-z0-9]{30,}"
    r"|\bdckr_pat_[A-Za-z0-9_-]{20,}"
    r"|\bSG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}"
    r"|\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?"
)
# A base64 line of a key whose header is elsewhere.
_KEY_LINE = re.compile(
    r"^[ +-]?[ \t]{0,20}(?=[A-Z+/\d]*[a-z])(?=[a-z+/\d]*[A-Z])(?=[A-Za-z+/]*\d)[A-Za-z0-9+/]{60,}={0,2}[ \t]*$",
    re.MULTILINE,
)
_PARTS = (_IN_URL, _IN_QUERY, _OPTION, _ASSIGNED)

_SECRET_FILES = re.compile(
    r"\.env.*|.*\.env|.*\.(?:pem|key|p12|pfx|pkcs12|jks|keystore|kdbx?|ppk|asc|gpg|age|tfstate|tfvars|ovpn)"
    r"|id_(?:rsa|dsa|ecdsa|ed25519)[^/]*|\.?netrc|\.pgpass|\.htpasswd|\.npmrc|\.pypirc|\.git-credentials|\.my\.cnf"
    r"|credentials?(?:\..*)?|secrets?(?:\..*)?|service[_-]account.*\.json|kubeconfig.*",
    re.IGNORECASE,
)
_SECRET_FOLDERS = frozenset({".ssh", ".gnupg", ".aws", ".kube", ".docker"})
_FILE_HEADER = re.compile(r"(?m)^(?=diff --git )")
_HUNK_HEADER = re.compile(r"(?m)^(?=@@ )")


def without_secrets(text: str) -> str:
    """Replace everything that looks like a secret by REDACTED; names and the rest of a URL stay."""
    text = _TOKENS.sub(HIDDEN, text)
    for pattern in _PARTS:
        text = pattern.sub(_hidden, text)
    return text


def _hidden(found: re.Match[str]) -> str:
    quote = found["secret"][0] if found["secret"][0] in "\"'" else ""
    return f"{found['before']}{quote}{HIDDEN}{quote}"


def without_secret(name: str, text: str) -> str:
    """As `without_secrets`, for a named value, which is redacted completely if the name is that of a secret."""
    return HIDDEN if text and _SECRET_NAME.fullmatch(name.rpartition("/")[2]) else without_secrets(text)


def values_without_secrets(values: Mapping[str, object]) -> dict[str, str]:
    """Tags or parameters as text, each redacted with `without_secret`."""
    return {name: without_secret(name, str(value)) for name, value in values.items()}


def has_secret(text: str) -> bool:
    """Whether anything in the text looks like a secret."""
    return bool(_KEY_LINE.search(text)) or without_secrets(text) != text


def command_without_secrets(arguments: Sequence[str]) -> str:
    """A quoted command line with secrets redacted: after `--password`, in `token=...`, in URLs."""
    shown = []
    follows = False
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if follows and not argument.startswith("--"):
            shown.append(HIDDEN)
        elif equals and _SECRET_NAME.fullmatch(name.rpartition("+")[2]):
            shown.append(f"{name}={HIDDEN if value else ''}")
        else:
            shown.append(without_secrets(argument))
        follows = not equals and argument.startswith("-") and bool(_SECRET_NAME.fullmatch(argument))
    return shlex.join(shown)


def data_yaml_without_secrets(text: str) -> str:
    """A data.yaml without `download`, which may be a private URL or a script, and without secrets."""
    left_out = r"\g<key>: left out by Transect"
    text = re.sub(
        r"""(?mx) ^(?P<key>["']?download["']?) [ \t]* : .* (?:\n (?:[ \t]+.*|[ \t]*(?=\n)|-.*) )*""", left_out, text
    )
    # In flow style (braces).
    text = re.sub(
        r"""(?P<key>(?<=[{,\s])["']?download["']?)[ \t]*:[ \t]*(?:"[^"]*"|'[^']*'|[^,}\n]*)""", left_out, text
    )
    return without_secrets(text)


def diff_without_secrets(patch: str) -> str:
    """A git diff without files with secret names, and without hunks that look like secrets.

    A comment replaces each; `git apply` accepts the rest.
    """
    parts = _FILE_HEADER.split(patch)
    return "".join(_clean_file(part) if part.startswith("diff --git ") else without_secrets(part) for part in parts)


def is_secret_file(path: str) -> bool:
    """Whether a file's name, or its folder's, suggests secrets."""
    parts = PurePosixPath(path).parts
    return bool(parts) and (
        bool(_SECRET_FILES.fullmatch(parts[-1]))
        or any(part in _SECRET_FOLDERS or part.startswith(".env") for part in parts)
    )


def _clean_file(part: str) -> str:
    names = _names(part)
    shown = without_secrets(names[-1] if names else "a file")
    if any(is_secret_file(name) for name in names):
        return f"# left out: {shown}, which holds secrets by its name\n"
    header, *hunks = _HUNK_HEADER.split(part)
    if "\nGIT binary patch\n" in header:
        suspect = any(content is None or has_secret(content) for content in _binary(header))
        return f"# left out: {shown}, which looks as if it held a secret\n" if suspect else part
    if has_secret(header):
        return f"# left out: {shown}, whose name looks like a secret\n"
    kept = [hunk if not has_secret(hunk) else _left_out(hunk, shown) for hunk in hunks]
    if hunks and not any(hunk.startswith("@@ ") for hunk in kept):
        return "".join(kept)
    # A comment between two hunks would end the patch for git, so all comments precede the file.
    comments = [hunk for hunk in kept if not hunk.startswith("@@ ")]
    return "".join([*comments, header, *(hunk for hunk in kept if hunk.startswith("@@ "))])


def _left_out(hunk: str, name: str) -> str:
    place = re.match(r"@@ [-+0-9, ]+ @@", hunk)
    where = f" ({place[0]})" if place else ""
    return f"# left out: a part of {name}{where} that looks as if it held a secret\n"


def _names(part: str) -> list[str]:
    """The old and new name of a file; git quotes unusual ones."""
    found = re.findall(
        r'(?m)^(?:(?:---|\+\+\+) "?(?:[a-z]/)?|(?:rename|copy) (?:from|to) "?)(.*?)"?\t?$', part.partition("\n@@ ")[0]
    )
    if not found:
        # A binary file, an empty one, or a mode change: the name is only in the first line, twice.
        first = part.partition("\n")[0].removeprefix("diff --git ")
        found = [first.partition(' "b/')[2] or first.rpartition(" b/")[2]]
    return [name.rstrip('"') for name in found if name and name != "/dev/null"]


def _binary(part: str) -> Iterator[str | None]:
    """The old and new content of a binary patch; None if it cannot be decoded."""
    for block in re.findall(r"(?m)^(?:literal|delta) \d+\n((?:[A-Za-z]\S+\n)*)", part):
        try:
            packed = b"".join(base64.b85decode(line[1:])[: _length(line[0])] for line in block.splitlines())
            content = zlib.decompress(packed)
        except (ValueError, zlib.error, binascii.Error):
            yield None
            continue
        # UTF-16 text is binary for git.
        yield content.replace(b"\0", b"").decode("latin-1")


def _length(letter: str) -> int:
    return ord(letter) - 64 if letter.isupper() else ord(letter) - 70
