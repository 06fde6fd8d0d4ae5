"""Streaming multipart/form-data parser: each file is available as soon as it is complete.

Starlette's own parser returns the files after the last byte of the body, and keeps large ones on disk until then.
Here detection in one file can run while the next one is uploaded. The push parser below is that of python-multipart,
the library under Starlette's, so that one parser reads every form.
"""

from dataclasses import dataclass
from typing import Protocol

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

_LONGEST_BOUNDARY = 70


class FormError(Exception):
    """The body is not a valid form; the message is one sentence."""


class FieldCheck(Protocol):
    """Checks a part's field name before its content arrives."""

    def __call__(self, field: str, *, is_file: bool) -> None:
        """Raise for a field that is not accepted."""


@dataclass(frozen=True)
class FilePart:
    """One file of the form: field name, file name as sent, bytes."""

    field: str
    filename: str
    data: bytes


class StreamingForm:
    """A push parser: feed it the chunks of a body, and it returns the files that are complete."""

    def __init__(self, content_type: str, check: FieldCheck) -> None:
        """Take the whole Content-Type header. FormError if its boundary is missing or too long."""
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
        """Parse the next bytes and return the files that they complete. FormError if they are invalid."""
        try:
            self._parser.write(chunk)
        except FormParserError:
            raise FormError("It is not valid multipart/form-data.") from None
        finished, self._finished = self._finished, []
        return finished

    def finish(self) -> None:
        """Check at the end of the body that the form is complete; FormError if it is not."""
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
