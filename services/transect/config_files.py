"""Strict reader of user-written YAML, with line and column for every error.

The dialect is YAML 1.1 as PyYAML parses it, with these rules:

    duplicate keys          rejected at every depth, also `a` and "a", 1 and "1", 10 and 1_0, and two merges (`<<`)
    keys                    whole numbers are numbers, all others are text as written (`no: x` has the key no)
    values                  true/false, yes/no, on/off; numbers also as 1e-7, which is a word in YAML 1.1
    0123                    rejected: readers disagree whether it is 83 or 123
    dates, 12:30, 1.2.3     text as written
    anchors, aliases, `<<`  as in YAML; a value that contains itself, or expands beyond _MOST_VALUES, is rejected
    tags                    those of plain values; any other (`!!python/...`) is rejected, and no code is executed
"""

import codecs
import difflib
import hashlib
import math
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Never

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from transect.errors import InputError, TransectError

_MOST_BYTES = 2_000_000
_MOST_VALUES = 200_000
_DEEPEST = 50
_MOST_DIGITS = 1000

_TAG = "tag:yaml.org,2002:"
_MERGE = _TAG + "merge"
_PLAIN_TAGS = frozenset(
    _TAG + name for name in ("null", "bool", "int", "float", "str", "timestamp", "seq", "map", "merge", "value")
)
# YAML 1.2, section 10.3.2 (core schema), in which 1e-7 is a number; YAML 1.1 requires 1.0e-7.
_NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WHOLE = re.compile(r"[-+]?(0|[1-9][0-9_]*|0b[01_]+|0x[0-9a-fA-F_]+)")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9][0-9_]*")
# Integers and dates of YAML 1.1 that users mean as text: 12:30 (sexagesimal), 2025-07-15.
_TEXT_AS_WRITTEN = frozenset({_TAG + "timestamp", _TAG + "value"})

# Clearer messages for the most frequent errors of the parser.
_CLEARER_MESSAGES = (
    (re.compile(r"found character '\\t'"), "a tab stands where only spaces may; indent with spaces"),
    (
        re.compile(r"mapping values are not allowed"),
        "a second `: ` in one line, or an indentation that does not fit the line above; put text with `: ` in quotes",
    ),
    (
        re.compile(r"expected <block end>"),
        "the indentation, or what begins here, does not fit the lines above; lines of one mapping begin in one column",
    ),
    (re.compile(r"could not find expected ':'"), "`key: value` is expected, and there is no `: `"),
    (re.compile(r"expected ',' or '[\]}]'"), "a bracket is not closed, or a comma is missing"),
    (re.compile(r"expected the node content"), "a bracket is not closed, or a value is missing"),
    (re.compile(r"unexpected end of stream"), "a quote or a bracket that was opened is not closed"),
    (re.compile(r"found undefined alias"), "an alias (*) names no anchor (&) above it; put text with * in quotes"),
    (re.compile(r"found character '(.)' that cannot start"), r"text that begins with \1 must be in quotes"),
    (
        re.compile(r"expected alphabetic or numeric"),
        "`*` and `&` begin an alias or an anchor; put text that begins with them in quotes",
    ),
    (re.compile(r"escape"), "a backslash between double quotes means something else; use single quotes, or /"),
    (re.compile(r"found undefined tag handle"), "a tag (!) that is not known; put text with ! in quotes"),
)

Keys = tuple[str | int, ...]


@dataclass(frozen=True)
class _Written:
    """The position of a value, and its text if it is a scalar; lines and columns count from 1."""

    line: int
    column: int
    text: str | None = None


class YamlMapping(dict[str, Any]):
    """The content of a file with the position of each value; contains plain dicts, lists and values.

    `sha256` is that of the bytes that were read, as 64 lower-case hexadecimal digits.
    """

    def __init__(self, path: Path, content: Mapping[str, Any], written: Mapping[Keys, _Written], sha256: str) -> None:
        super().__init__(content)
        self.path = path
        self.sha256 = sha256
        self._written = written

    def where(self, *keys: str | int) -> str:
        """`line 3, column 7` of the value at `keys`, or of the nearest enclosing one; "" for the whole."""
        for count in range(len(keys), 0, -1):
            found = self._written.get(keys[:count])
            if found is not None:
                return f"line {found.line}, column {found.column}"
        return ""

    def text(self, *keys: str | int) -> str | None:
        """A scalar as written, such as 1.10; None for a list, a mapping or a missing value."""
        found = self._written.get(keys)
        return None if found is None else found.text

    def placed(self, message: str, *keys: str | int) -> str:
        """`message` as a sentence with the position of `keys`."""
        return placed(message, self.where(*keys))


def placed(message: str, where: str) -> str:
    """`message` as a sentence that ends with a position: `... (line 3, column 7).`."""
    message = message.removesuffix(".")
    if not where:
        return message if message.endswith("?") else f"{message}."
    return f"{message} ({where})."


def read_yaml_mapping(path: Path, failure: type[TransectError], what: str = "", hint: str = "") -> YamlMapping:
    """Read a YAML file that contains a mapping; an empty file is an empty mapping.

    Errors include `what`, the kind of file (Recipe), and `hint`, the advice if it cannot be opened. Raises
    `failure` in one sentence, with line and column if available.
    """
    name = f"{what} {path}".strip()
    content = _read_bytes(path, name, failure, hint)
    sha256 = hashlib.sha256(content).hexdigest()
    text = _decode(content, name, failure)
    try:
        read = _Reader(_compose(text))
    except _ProblemError as problem:
        raise failure(problem.sentence(name)) from problem
    if read.value is None:
        return YamlMapping(path, {}, {}, sha256)
    if not isinstance(read.value, dict):
        actual = "a list" if isinstance(read.value, list) else repr(read.value)
        raise failure(f"{name} must be a mapping: it must hold `key: value` lines, not {actual} ({read.start}).")
    return YamlMapping(path, read.value, read.written, sha256)


def read_yaml_value(text: str, name: str, failure: type[TransectError] = InputError) -> Any:
    """The value of one KEY=VALUE, by the rules of a file. Raises `failure` with `name` and the column."""
    try:
        return _Reader(_compose(text)).value
    except _ProblemError as problem:
        raise failure(problem.sentence(name)) from problem


def unknown_key(key: object, known: Collection[str], what: str) -> str:
    """A clause that `key` is not a key of `what`, with the nearest known key as a suggestion."""
    shown = key if isinstance(key, str) else str(key)
    by_lower = {name.lower(): name for name in sorted(known)}
    near = difflib.get_close_matches(shown.lower(), by_lower, n=1)
    hint = f"did you mean {by_lower[near[0]]}?" if near else f"known are {', '.join(sorted(known)) or 'none'}"
    return f"{shown!r} is not a key of {what}; {hint}"


class _ProblemError(Exception):
    """A problem of a text with its position; `valid` if it is valid YAML that our rules reject."""

    def __init__(self, problem: str, mark: yaml.Mark | None = None, *, valid: bool = False) -> None:
        super().__init__(problem)
        self.problem, self.mark, self.valid = problem, mark, valid

    def sentence(self, name: str) -> str:
        place = f"line {self.mark.line + 1}, column {self.mark.column + 1}" if self.mark is not None else ""
        if self.valid:
            return placed(f"{name} {self.problem}", place)
        return f"{name} is not valid YAML{' at ' + place if place else ''}: {self.problem}."


def _read_bytes(path: Path, name: str, failure: type[TransectError], hint: str) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = "it is a folder" if isinstance(error, IsADirectoryError) else getattr(error, "strerror", None) or error
        raise failure(f"{name} cannot be read: {reason}{'; ' + hint if hint else ''}.") from error
    if len(content) > _MOST_BYTES:
        raise failure(f"{name} is larger than {_MOST_BYTES // 1_000_000} MB, and no configuration file; name another.")
    return content


def _decode(content: bytes, name: str, failure: type[TransectError]) -> str:
    encoding = "utf-8-sig"
    # YAML 1.1, section 5.2: UTF-16 is detected by its byte order mark.
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        before = content[: error.start]
        line = before.count(b"\n") + 1
        column = len(before.rpartition(b"\n")[2].decode("utf-8", "replace")) + 1
        raise failure(
            f"{name} is not UTF-8 text: byte 0x{content[error.start]:02x} at line {line}, column {column}; "
            "save it as UTF-8."
        ) from error
    if "\0" in text[:1000]:
        raise failure(f"{name} is not UTF-8 text: it holds zero bytes (line 1); save it as UTF-8.")
    return text


class _Loader(yaml.SafeLoader):
    """PyYAML's parser up to the node tree, with a limit of depth."""

    depth = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        self.depth += 1
        if self.depth > _DEEPEST:
            peek: Callable[[], Any] = self.peek_event
            raise _ProblemError("it is nested too deeply to be read", peek().start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _compose(text: str) -> Node | None:
    strange = yaml.reader.Reader.NON_PRINTABLE.search(text)
    if strange is not None:
        before = text[: strange.start()]
        mark = yaml.Mark("", strange.start(), before.count("\n"), len(before.rpartition("\n")[2]), None, 0)
        raise _ProblemError(f"the character U+{ord(strange[0]):04X} may not stand in it", mark)
    loader = _Loader(text)
    try:
        return loader.get_single_node()
    except yaml.composer.ComposerError as error:
        if "single document" in str(error.context):
            raise _ProblemError("holds several documents (---); keep one", error.problem_mark, valid=True) from error
        raise _ProblemError(_clear_message(error), error.problem_mark) from error
    except yaml.MarkedYAMLError as error:
        raise _ProblemError(_clear_message(error), error.problem_mark or error.context_mark) from error
    except yaml.YAMLError as error:
        raise _ProblemError(" ".join(str(error).split())) from error
    except (ValueError, OverflowError) as error:
        # An escape such as "\UFFFFFFFF", which is not a character.
        raise _ProblemError(f"a character that does not exist ({error})", loader.get_mark()) from error
    finally:
        loader.dispose()


def _clear_message(error: yaml.MarkedYAMLError) -> str:
    message = " ".join(f"{error.problem or error.context or 'it cannot be parsed'}".split())
    for pattern, words in _CLEARER_MESSAGES:
        if found := pattern.search(message):
            return found.expand(words)
    return message


def _spelling_tag(text: str) -> str:
    """The YAML 1.1 tag of an unquoted word."""
    resolve: Callable[..., str] = yaml.resolver.Resolver().resolve
    return resolve(ScalarNode, text, (True, False))


class _Reader:
    """Converts the node tree to values, and records the position of each."""

    def __init__(self, root: Node | None) -> None:
        self.written: dict[Keys, _Written] = {}
        self._sizes: dict[int, int] = {}
        self._open: set[int] = set()
        self._values = yaml.constructor.SafeConstructor()
        self.start = "" if root is None else f"line {root.start_mark.line + 1}, column {root.start_mark.column + 1}"
        if root is not None and self._size(root) > _MOST_VALUES:
            self._refuse(f"holds more than {_MOST_VALUES:,} values when its aliases are written out", root)
        self.value: Any = None if root is None else self._build(root, ())

    def _refuse(self, problem: str, node: Node) -> Never:
        raise _ProblemError(problem, node.start_mark, valid=True)

    def _size(self, node: Node) -> int:
        """The number of values of `node` with all aliases expanded."""
        if isinstance(node, ScalarNode):
            return 1
        if id(node) in self._open:
            self._refuse("holds a value that contains itself (an alias inside of its own anchor)", node)
        if id(node) not in self._sizes:
            self._open.add(id(node))
            inner = [one for pair in node.value for one in pair] if isinstance(node, MappingNode) else node.value
            self._sizes[id(node)] = 1 + sum(map(self._size, inner))
            self._open.discard(id(node))
        return self._sizes[id(node)]

    def _build(self, node: Node, keys: Keys) -> Any:
        if node.tag not in _PLAIN_TAGS:
            tag = node.tag.replace(_TAG, "!!")
            self._refuse(
                f"has the tag {tag}, and only plain values may stand in it; take the tag away, or put quotes around it",
                node,
            )
        if isinstance(node, MappingNode) and node.tag == _TAG + "map":
            return self._mapping(node, keys)
        if isinstance(node, SequenceNode) and node.tag == _TAG + "seq":
            for index, one in enumerate(node.value):
                self._note(one, (*keys, index), one)
            return [self._build(one, (*keys, index)) for index, one in enumerate(node.value)]
        if not isinstance(node, ScalarNode):
            self._refuse(f"has a value that is not of its tag {node.tag.replace(_TAG, '!!')}", node)
        return self._scalar(node)

    def _note(self, start: Node, keys: Keys, value: Node) -> None:
        """Record the position of `keys`: of the key in a mapping, of the value in a list."""
        text = value.value if isinstance(value, ScalarNode) else None
        self.written[keys] = _Written(start.start_mark.line + 1, start.start_mark.column + 1, text)

    def _mapping(self, node: MappingNode, keys: Keys) -> dict[Any, Any]:
        lines: dict[str, int] = {}
        merges: list[Node] = []
        own: list[tuple[str | int, Node, Node]] = []
        for key_node, value_node in node.value:
            key = self._key(key_node)
            # 1 and "1" are the same key to users, though not to Python.
            name = str(key)
            if name in lines:
                raise _ProblemError(
                    f"{name!r} stands in line {lines[name]} already; keep one of the two", key_node.start_mark
                )
            lines[name] = key_node.start_mark.line + 1
            if key_node.tag == _MERGE:
                merges.append(value_node)
            else:
                own.append((key, key_node, value_node))
        # Merge first, so that the mapping's own keys and their positions override it.
        values = self._merged(merges[0], keys) if merges else {}
        for key, key_node, value_node in own:
            values[key] = self._build(value_node, (*keys, key))
            self._note(key_node, (*keys, key), value_node)
        return values

    def _merged(self, node: Node, keys: Keys) -> dict[Any, Any]:
        """The content of a merge (`<<`): a mapping, or a list of mappings, of which earlier ones take precedence."""
        sources = node.value if isinstance(node, SequenceNode) else [node]
        merged: dict[Any, Any] = {}
        for source in reversed(sources):
            if not isinstance(source, MappingNode):
                self._refuse("has a merge (<<) of something that is no mapping", source)
            merged |= self._mapping(source, keys)
        return merged

    def _key(self, node: Node) -> str | int:
        if not isinstance(node, ScalarNode):
            self._refuse("has a list or a mapping for a key; put text with { or [ in quotes", node)
        if node.tag not in _PLAIN_TAGS:
            self._build(node, ())
        if not node.value:
            self._refuse("has a value without a key before the colon", node)
        value = None if node.tag == _MERGE else self._scalar(node)
        return value if isinstance(value, int) and not isinstance(value, bool) else str(node.value)

    def _scalar(self, node: ScalarNode) -> Any:
        text = str(node.value)
        if node.tag in {_TAG + "map", _TAG + "seq", _MERGE}:
            self._refuse(f"has the value {text[:40]!r}, which is not of its tag {node.tag.replace(_TAG, '!!')}", node)
        # An unquoted word has the tag of its spelling, unless an explicit tag was written.
        if node.style is None and node.tag == _spelling_tag(text):
            if node.tag in {_TAG + "str", _TAG + "int", _TAG + "float"}:
                return self._word(node, text)
            if node.tag in _TEXT_AS_WRITTEN:
                return text
        try:
            return text if node.tag in _TEXT_AS_WRITTEN else self._values.construct_object(node)
        except (ValueError, KeyError, yaml.YAMLError):
            self._refuse(f"has the value {text[:40]!r}, which is not of its tag {node.tag.replace(_TAG, '!!')}", node)

    def _word(self, node: ScalarNode, text: str) -> Any:
        """The value of an unquoted word: a number if it is written as one."""
        if _LEADING_ZERO.fullmatch(text):
            self._refuse(
                f"has {text} with a leading zero, which some read as octal; write it without, or in quotes as text",
                node,
            )
        if _WHOLE.fullmatch(text):
            if len(text) > _MOST_DIGITS:
                self._refuse(f"holds a value that cannot be read: a number of {len(text)} digits", node)
            return int(text.replace("_", ""), 0)
        if _NUMBER.fullmatch(text):
            number = float(text)
            # 12e4567 is more likely the hash of a commit than an infinite number.
            return number if math.isfinite(number) else text
        if node.tag == _TAG + "float" and ":" not in text:
            return self._values.construct_object(node)
        return text
