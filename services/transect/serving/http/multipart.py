"""multipart/form-data, file by file while it arrives.

Starlette's own reader gives the files when the last byte of the body is there, and keeps large ones
on disk meanwhile; here a file can be searched while the next one is still on its way.
"""

from dataclasses import dataclass
from typing import Protocol

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

_LONGEST_BOUNDARY = 70


class FormError(Exception):
    """The body is no readable form; the message is one sentence."""


class FieldCheck(Protocol):
    """Looks at a part's name before its content arrives; raises what it has against it."""

    def __call__(self, field: str, *, is_file: bool) -> None:
        """Raise for a field that is not wanted."""


@dataclass(frozen=True)
class FilePart:
    """One file of the form: the field's name, the file's name as it was sent, its bytes."""

    field: str
    filename: str
    data: bytes


class Form:
    """A form that is fed with the chunks of a body and gives out its finished files."""

    def __init__(self, content_type: str, check: FieldCheck) -> None:
        """`content_type` is the whole header; FormError when it names no boundary, or one that is too long."""
        _, options = parse_options_header(content_type)
        boundary = options.get(b"boundary")
        if not boundary:
            raise FormError("Its Content-Type names no boundary.")
        self._check = check
        self._finished: list[FilePart] = []
        self._complete = False
        self._new_part()
        # RFC 2046, section 5.1.1.
        if len(boundary) > _LONGEST_BOUNDARY:
            raise FormError(f"Its boundary has more than {_LONGEST_BOUNDARY} characters.")
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._new_part,
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_part_data": self._on_part_data,
                "on_part_end": self._on_part_end,
                "on_end": self._on_end,
            },
        )

    def feed(self, chunk: bytes) -> list[FilePart]:
        """Take the next bytes; gives the files that they finished. FormError when they are no form."""
        try:
            self._parser.write(chunk)
        except FormParserError:
            raise FormError("It is no valid multipart/form-data.") from None
        finished, self._finished = self._finished, []
        return finished

    def finish(self) -> None:
        """The body is over; FormError when it stopped before the form's end."""
        if not self._complete:
            raise FormError("It ends before its closing boundary.")

    def _new_part(self) -> None:
        self._name = self._value = b""
        self._disposition = b""
        self._field = self._filename = ""
        self._data: list[bytes] = []

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        if self._name.lower() == b"content-disposition":
            self._disposition = self._value
        self._name = self._value = b""

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        if b"name" not in options:
            raise FormError('A part has no "name" in its Content-Disposition.')
        self._field = _text(options[b"name"])
        self._check(self._field, is_file=b"filename" in options)
        self._filename = _text(options.get(b"filename", b""))

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._data.append(data[start:end])

    def _on_part_end(self) -> None:
        self._finished.append(FilePart(self._field, self._filename, b"".join(self._data)))
        self._data = []

    def _on_end(self) -> None:
        self._complete = True


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")
