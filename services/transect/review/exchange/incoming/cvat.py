"""Read the XML of CVAT (CVAT for images 1.1). Expat parses it, since it knows the line of each element."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from xml.parsers import expat

from transect.errors import InputError
from transect.review.decisions.decision import PixelBox
from transect.review.exchange.incoming.marks import Mark, MarkedPhoto
from transect.review.exchange.incoming.source import Source, ToolImage, as_number, envelope, marked_photos
from transect.review.exchange.terms import PHOTO_DONE

_OTHER_SHAPES = frozenset({"polygon", "polyline", "points", "cuboid", "mask", "ellipse", "skeleton"})


@dataclass
class _Shape:
    line: int
    facts: Mapping[str, str]
    attributes: dict[str, str] = field(default_factory=dict)


@dataclass
class _Image:
    line: int
    facts: Mapping[str, str]
    boxes: list[_Shape] = field(default_factory=list)
    done: bool = False


class _Reader:
    """Collects images and boxes; elements that we do not know are passed over."""

    def __init__(self, source: Source) -> None:
        self.images: list[_Image] = []
        self._source = source
        self._path: list[str] = []
        self._shape: _Shape | None = None
        self._attribute = ""
        # The text is decoded already, and Python hands it over in this encoding.
        self._parser = expat.ParserCreate("utf-8")
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._text
        self._parser.StartDoctypeDeclHandler = self._doctype

    def read(self, text: str) -> list[_Image]:
        try:
            self._parser.Parse(text, True)
        except expat.ExpatError as error:
            what = expat.ErrorString(error.code)
            raise InputError(f"{self._source.path} line {error.lineno} is not XML: {what}; export it anew.") from error
        return self.images

    def _where(self) -> str:
        return f"{self._source.path} line {self._parser.CurrentLineNumber}"

    def _doctype(self, *_: object) -> None:
        raise InputError(f"{self._where()} defines a document type, which CVAT never does; export it anew.")

    def _start(self, name: str, facts: dict[str, str]) -> None:
        if not self._path and name != "annotations":
            raise InputError(f"{self._where()} begins with <{name}>, not with <annotations> as CVAT's XML does.")
        self._path.append(name)
        line = self._parser.CurrentLineNumber
        if name == "track":
            raise InputError(f"{self._where()} is of a video; export as CVAT for images 1.1.")
        if name == "image" and len(self._path) == 2:
            self.images.append(_Image(line, facts))
        elif self._path[1:2] == ["image"] and len(self._path) == 3:
            if name in _OTHER_SHAPES:
                raise InputError(f"{self._where()} is a {name}; draw rectangles alone.")
            if name == "box":
                self._shape = _Shape(line, facts)
                self.images[-1].boxes.append(self._shape)
            elif name == "tag" and facts.get("label", "").casefold() == PHOTO_DONE:
                self.images[-1].done = True
        elif name == "attribute" and self._shape is not None:
            self._attribute = facts.get("name", "")
            self._shape.attributes[self._attribute] = ""

    def _end(self, name: str) -> None:
        self._path.pop()
        self._attribute = ""
        if name == "box":
            self._shape = None

    def _text(self, text: str) -> None:
        if self._attribute and self._shape is not None:
            self._shape.attributes[self._attribute] += text


def cvat_photos(text: str, source: Source) -> list[MarkedPhoto]:
    """The photos of an export. Raises InputError, naming file and line, for what cannot be read."""
    images = [_tool_image(one, source) for one in _Reader(source).read(text)]
    return marked_photos(source, images, [])


def _tool_image(image: _Image, source: Source) -> ToolImage:
    known = source.known
    marks = tuple(
        Mark(
            where=f"{source.path} line {box.line}",
            label=box.facts.get("label", ""),
            box=_box(box.facts, f"{source.path} line {box.line}"),
            box_key=box.attributes.get("box_key", "").strip(),
            verdict=box.attributes.get("verdict", "").strip(),
            note=box.attributes.get("note", "").strip(),
        )
        for box in image.boxes
        if box.facts.get("label", "").casefold() != PHOTO_DONE
    )
    return ToolImage(
        where=f"{source.path} line {image.line}",
        name=image.facts.get("name", ""),
        photo_sha256="",
        hashes=[known.boxes[mark.box_key].photo_sha256 for mark in marks if mark.box_key in known.boxes],
        width=image.facts.get("width"),
        height=image.facts.get("height"),
        done=image.done or len(marks) < len(image.boxes),
        marks=marks,
        batches=[box.attributes.get("batch", "").strip() for box in image.boxes],
    )


def _box(facts: Mapping[str, str], where: str) -> PixelBox:
    x1, y1, x2, y2 = (as_number(facts.get(name, ""), where) for name in ("xtl", "ytl", "xbr", "ybr"))
    turn = as_number(facts.get("rotation", "0"), where)
    # CVAT turns about the middle.
    return envelope((x1, y1), (x2 - x1, y2 - y1), turn, ((x1 + x2) / 2, (y1 + y2) / 2))
