"""XMP packets to values: any encoding, any prefix, attributes, elements, structures and lists.

Expat, which Python carries, parses them; namespaces are resolved here, since cut packets use prefixes that they do not
declare and a parser of namespaces refuses those whole. Document types are refused, so no entity can be defined, let
alone expand. pyexiv2 (Exiv2) was considered: it reads one packet, no extended XMP, and is not safe in threads.
Source: XMP specification part 1 (RDF syntax, section 7; ISO 16684-1), part 3 (extended XMP).
"""

import codecs
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from xml.parsers import expat

from transect.imagery.metadata.containers import MOST_XMP, Extension

# The name under which the rest of the room looks a value up, by what stands in the namespace's URI. Vendors write
# http and https, with www and without, with a slash at the end and without, and count versions up.
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
# What these prefixes mean where a packet does not declare them.
_USUAL_PREFIXES = frozenset(name for _, name in _NAMESPACES)
# Nobody else uses these, so that they mean the vendor even where the URI is another.
_OWN_PREFIXES = frozenset({"drone-dji", "drone-parrot", "drone-skydio"})
_UNKNOWN = "?"
_LISTS = frozenset({"rdf:Seq", "rdf:Bag", "rdf:Alt"})
_TRANSPARENT = _LISTS | {"rdf:RDF", "rdf:Description", "rdf:li", "rdf:value", "x:xmpmeta", "x:xapmeta"}
_DEEPEST = 64

_DECLARATION = re.compile(r"<\?xml\s[^>]*\?>")
_DECLARED = re.compile(rb"""<\?xml[^>]*encoding\s*=\s*["']([\w.-]+)["']""")
# What XML 1.0 allows to stand nowhere, section 2.2.
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
    """Values by `vendor:name`, a structure's fields by `vendor:name/field`; what is there and could not be read."""

    items: Mapping[str, str] = field(default_factory=dict)
    trouble: tuple[str, ...] = ()


def read_xmp(packets: Sequence[bytes], extensions: Mapping[bytes, Extension], damage: Iterable[str] = ()) -> Xmp:
    """All packets of a file as one: a later one counts where it says something else, as in exiftool.

    An extension counts where a packet names its GUID (XMP specification part 3, section 1.1.3.1).
    """
    items: dict[str, str] = {}
    trouble = list(damage)
    for packet in packets:
        _take(packet, items, trouble)
    guid = items.get("xmpNote:HasExtendedXMP", "").strip().upper().encode("utf-8", "replace")
    for name, extension in extensions.items():
        whole = extension.joined() if extension.size <= MOST_XMP else None
        if name != guid:
            trouble.append("its extended XMP belongs to another packet (no packet names its GUID)")
        elif whole is None:
            told = f"a part of its {extension.size} bytes is missing"
            if extension.size > MOST_XMP:
                told = f"it has {extension.size} bytes, more than are read ({MOST_XMP})"
            trouble.append(f"its extended XMP cannot be read: {told}")
        else:
            _take(whole, items, trouble)
    if guid and guid not in extensions:
        trouble.append("its extended XMP is missing")
    return Xmp(items, tuple(dict.fromkeys(trouble)))


def _take(packet: bytes, items: dict[str, str], trouble: list[str]) -> None:
    found, problem = _parse(_text(packet))
    items.update((key, value) for key, value in found.items() if value or key not in items)
    if problem:
        trouble.append(f"its XMP is damaged ({problem})")


def _text(raw: bytes) -> str:
    """A packet's characters: by its byte order mark, else by where its zero bytes stand, else UTF-8, else Latin-1."""
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
    """UTF-16 or UTF-32 without a mark: XMP is mostly ASCII, so each character has zeros at the same places."""
    at = start.find(b"<")
    if at < 0 or 0 not in start:
        return ""
    wide = start[at + 1 : at + 3] == b"\x00\x00" or start[max(at - 2, 0) : at] == b"\x00\x00"
    if wide:
        return "utf-32-be" if at % 4 == 3 else "utf-32-le"
    return "utf-16-be" if at % 2 else "utf-16-le"


def _parse(text: str) -> tuple[dict[str, str], str]:
    """The values of a packet and what is wrong with it; values in front of the damage count."""
    text = _ILLEGAL.sub("", _DECLARATION.sub("", text))
    # What stands around a packet: marks, padding, the zeros of a fixed field.
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
        # Cut off in the midst of a tag: the attributes before the cut are whole.
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
    """The packet holds what no XMP may."""


class _Reader:
    """Elements on the way from the root to where the parser is, each with its prefixes, its name and its text."""

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
            # Alternatives say the same in several languages; the first is the default.
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
        """The property that the parser is in, and the fields on the way to it: `vendor:name/field`."""
        names = [name for name in (*self._names, last) if name and name not in _TRANSPARENT]
        return "/".join([names[0], *(name.partition(":")[2] for name in names[1:])]) if names else ""

    def _name(self, written: str, *, element: bool = False) -> str:
        """`vendor:name`; empty for what no namespace owns, and a name that nobody asks for where it is another's."""
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
