"""Parse XMP packets: any encoding, any prefix, attributes, elements, structures and lists.

Python's Expat parses them; namespaces are resolved here, since truncated packets use undeclared prefixes, and a
namespace-aware parser rejects those completely. Document types are rejected, so entities can be neither defined nor
expanded. pyexiv2 (Exiv2) was considered: it reads one packet, no extended XMP, and is not thread-safe.
Source: XMP specification part 1 (RDF syntax, section 7; ISO 16684-1), part 3 (extended XMP).
"""

import codecs
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from xml.parsers import expat

from transect.imagery.metadata.containers import MOST_XMP, Extension

# Our prefix by a pattern of the namespace's URI. Vendors vary http and https, www, trailing slashes and version
# numbers.
_NAMESPACES = (
    (re.compile(r"dji\.com/|autel"), "drone-dji"),
    (re.compile(r"parrot\.com/drone-parrot"), "drone-parrot"),
    (re.compile(r"skydio\.com/drone-skydio/"), "drone-skydio"),
    (re.compile(r"pix4d\.com/camera|sensefly\.com/camera"), "Camera"),
    (re.compile(r"ns\.adobe\.com/exif/1\.0/?$"), "exif"),
    (re.compile(r"ns\.adobe\.com/xap/1\.0/?$"), "xmp"),
    (re.compile(r"ns\.adobe\.com/photoshop/1\.0/?$"), "photoshop"),
    (re.compile(r"ns\.adobe\.com/xmp/note/?$"), "xmpNote"),
    (re.compile(r"w3\.org/1999/02/22-rdf-syntax-ns"), "rdf"),
    (re.compile(r"^adobe:ns:meta"), "x"),
)
# Prefixes that keep their usual meaning if a packet does not declare them.
_USUAL_PREFIXES = frozenset(name for _, name in _NAMESPACES)
# Prefixes unique to a vendor, which identify it even with another URI.
_OWN_PREFIXES = frozenset({"drone-dji", "drone-parrot", "drone-skydio"})
_UNKNOWN = "?"
_LISTS = frozenset({"rdf:Seq", "rdf:Bag", "rdf:Alt"})
_TRANSPARENT = _LISTS | {"rdf:RDF", "rdf:Description", "rdf:li", "rdf:value", "x:xmpmeta", "x:xapmeta"}
_DEEPEST = 64

_DECLARATION = re.compile(r"<\?xml\s[^>]*\?>")
_DECLARED = re.compile(rb"""<\?xml[^>]*encoding\s*=\s*["']([\w.-]+)["']""")
# Characters that XML 1.0 never allows, section 2.2.
_ILLEGAL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_BARE_AMPERSAND = re.compile(r"&(?!(?:amp|lt|gt|quot|apos|#\d{1,7}|#x[0-9a-fA-F]{1,6});)")
_LAST_ATTRIBUTE = re.compile(r"""<[^<>]*(?:"[^"<]*"|'[^'<]*')""")
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


@dataclass(frozen=True)
class Xmp:
    """Values by `vendor:name`, a structure's fields by `vendor:name/field`; `trouble` describes unreadable parts."""

    items: Mapping[str, str] = field(default_factory=dict)
    trouble: tuple[str, ...] = ()


def read_xmp(packets: Sequence[bytes], extensions: Mapping[bytes, Extension], damage: Iterable[str] = ()) -> Xmp:
    """Merge all packets of a file: a later value overrides an earlier one, as in exiftool.

    An extension is used if a packet names its GUID (XMP specification part 3, section 1.1.3.1).
    """
    items: dict[str, str] = {}
    trouble = list(damage)
    for packet in packets:
        _merge_packet(packet, items, trouble)
    guid = items.get("xmpNote:HasExtendedXMP", "").strip().upper().encode("utf-8", "replace")
    for name, extension in extensions.items():
        whole = extension.joined() if extension.size <= MOST_XMP else None
        if name != guid:
            trouble.append("its extended XMP belongs to another packet (no packet names its GUID)")
        elif whole is None:
            reason = f"a part of its {extension.size} bytes is missing"
            if extension.size > MOST_XMP:
                reason = f"it has {extension.size} bytes, more than are read ({MOST_XMP})"
            trouble.append(f"its extended XMP cannot be read: {reason}")
        else:
            _merge_packet(whole, items, trouble)
    if guid and guid not in extensions:
        trouble.append("its extended XMP is missing")
    return Xmp(items, tuple(dict.fromkeys(trouble)))


def _merge_packet(packet: bytes, items: dict[str, str], trouble: list[str]) -> None:
    found, problem = _parse(_text(packet))
    items.update((key, value) for key, value in found.items() if value or key not in items)
    if problem:
        trouble.append(f"its XMP is damaged ({problem})")


def _text(raw: bytes) -> str:
    """Decode a packet by its byte order mark, else by the positions of zero bytes, else as UTF-8, else as Latin-1."""
    encoding = next((name for mark, name in _MARKS if raw.startswith(mark)), "") or _unmarked(raw[:256])
    if encoding:
        return raw.decode(encoding, errors="replace")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.reason == "unexpected end of data" and error.end == len(raw):
            return raw.decode("utf-8", errors="ignore")
    declared = _DECLARED.search(raw)
    try:
        return raw.decode(declared[1].decode("ascii") if declared else "latin-1", errors="replace")
    except LookupError:
        return raw.decode("latin-1")


def _unmarked(start: bytes) -> str:
    """Detect UTF-16 or UTF-32 without a mark: XMP is mostly ASCII, so zero bytes are at regular positions."""
    at = start.find(b"<")
    if at < 0 or 0 not in start:
        return ""
    wide = start[at + 1 : at + 3] == b"\x00\x00" or start[max(at - 2, 0) : at] == b"\x00\x00"
    if wide:
        return "utf-32-be" if at % 4 == 3 else "utf-32-le"
    return "utf-16-be" if at % 2 else "utf-16-le"


def _parse(text: str) -> tuple[dict[str, str], str]:
    """The values of a packet and its problem, if any; values before the damage are used."""
    text = _ILLEGAL.sub("", _DECLARATION.sub("", text))
    # Remove the surroundings of a packet: marks, padding, the zeros of a fixed field.
    text = text[max(text.find("<"), 0) :]
    if text.rfind(">") > text.rfind("<"):
        text = text[: text.rfind(">") + 1]
    if not text.strip("\ufeff \t\r\n"):
        return {}, ""
    items, problem = _parse_once(text)
    if problem and _BARE_AMPERSAND.search(text):
        text = _BARE_AMPERSAND.sub("&amp;", text)
        items, problem = _parse_once(text)
    if problem:
        # Truncated within a tag: the attributes before the cut are complete.
        last = text.rfind("<")
        kept = _LAST_ATTRIBUTE.match(text, last) if last >= 0 and ">" not in text[last:] else None
        if kept is not None and not text.startswith(("</", "<?", "<!"), last):
            items = _parse_once(text[:last] + kept[0] + "/>")[0]
    return items, problem


def _parse_once(text: str) -> tuple[dict[str, str], str]:
    reader = _Reader()
    parser = expat.ParserCreate("utf-8")
    parser.buffer_text = True
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.characters
    parser.StartDoctypeDeclHandler = reader.refuse
    problem = ""
    try:
        parser.Parse(text.encode("utf-8", errors="replace"), True)
    except expat.ExpatError as error:
        problem = f"{expat.ErrorString(error.code)}, line {error.lineno}, column {error.offset + 1}"
    except _RefusedError as error:
        problem = str(error)
    return reader.items, problem


class _RefusedError(Exception):
    """The packet contains something that XMP forbids."""


class _Reader:
    """Parser state: the stack of open elements with their prefixes, names and texts."""

    def __init__(self) -> None:
        self.items: dict[str, str] = {}
        self._scopes: list[dict[str, str]] = [{}]
        self._names: list[str] = []
        self._texts: list[list[str]] = []
        self._lists: list[list[str]] = []

    def refuse(self, *_: object) -> None:
        raise _RefusedError("it declares a document type, which XMP may not")

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if len(self._names) >= _DEEPEST:
            raise _RefusedError(f"its elements are nested deeper than {_DEEPEST}")
        declared = {name[6:]: uri for name, uri in attributes.items() if name == "xmlns" or name.startswith("xmlns:")}
        self._scopes.append({**self._scopes[-1], **declared} if declared else self._scopes[-1])
        # The root is a wrapper, whatever its name.
        self._names.append(self._name(tag, element=True) if self._names else "")
        self._texts.append([])
        if self._names[-1] in _LISTS:
            self._lists.append([])
        for written, value in attributes.items():
            name = self._name(written)
            if name == "rdf:value":
                self._put(self._path(), value)
            elif name and not name.startswith(("xmlns:", "xml:", "rdf:", "x:")):
                self._put(self._path(name), value)

    def characters(self, text: str) -> None:
        if self._texts:
            self._texts[-1].append(text)

    def end(self, _: str) -> None:
        text, name = "".join(self._texts.pop()).strip(), self._names[-1]
        if name in _LISTS:
            values = self._lists.pop()
            # Alternatives are translations; the first is the default.
            several = values[:1] if name == "rdf:Alt" else list(dict.fromkeys(values))
            if values:
                self._put(self._path(), "; ".join(several))
        elif name == "rdf:li" and self._lists:
            if text:
                self._lists[-1].append(text)
        elif name == "rdf:value" or (name and name not in _TRANSPARENT):
            self._put(self._path(), text)
        self._names.pop()
        self._scopes.pop()

    def _put(self, path: str, value: str) -> None:
        value = value.strip()
        if path and not path.startswith(_UNKNOWN) and (value or path not in self.items):
            self.items[path] = value

    def _path(self, last: str = "") -> str:
        """The path of the current property with its parent fields: `vendor:name/field`."""
        names = [name for name in (*self._names, last) if name and name not in _TRANSPARENT]
        return "/".join([names[0], *(name.partition(":")[2] for name in names[1:])]) if names else ""

    def _name(self, written: str, *, element: bool = False) -> str:
        """`vendor:name`; empty without a namespace, and prefixed with `?` for an unknown one."""
        prefix, colon, local = written.rpartition(":")
        if not colon and not (element and "" in self._scopes[-1]):
            return ""
        uri = self._scopes[-1].get(prefix)
        if uri is None:
            return written if prefix in _USUAL_PREFIXES or prefix in ("xml", "xmlns") else f"{_UNKNOWN}:{local}"
        plain = uri.strip().lower()
        known = next((name for pattern, name in _NAMESPACES if pattern.search(plain)), _UNKNOWN)
        if known == _UNKNOWN and prefix in _OWN_PREFIXES:
            known = prefix
        return f"{known}:{local}"
