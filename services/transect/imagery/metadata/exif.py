"""Parse EXIF directories from bytes: every field by its own type, with a reason for each unreadable one.

Pillow reads EXIF too, but it fails on all directories if one is damaged, loses types (a hemisphere of type BYTE is a
number or a text by chance), and does not look for XMP in the Exif directory. Source: EXIF 2.32 (CIPA
DC-008), sections 4.5 and 4.6; TIFF 6.0, section 2; the BigTIFF proposal of libtiff.
"""

import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

# Reads up to `size` bytes at an offset of the block; fewer at its end.
Read = Callable[[int, int], bytes]

XMP = 700
_EXIF_DIRECTORY, _GPS_DIRECTORY = 0x8769, 0x8825
_MOST_ENTRIES = 4096
_LONGEST_VALUE = 65_536
_TEXT, _BYTES = frozenset({2, 129}), frozenset({1, 7})
# TIFF 6.0 and BigTIFF: format of struct and size by type. 129 is the UTF-8 of EXIF 3.0.
_TYPES = {
    1: ("B", 1), 2: ("s", 1), 3: ("H", 2), 4: ("I", 4), 5: ("II", 8), 6: ("b", 1), 7: ("s", 1), 8: ("h", 2),
    9: ("i", 4), 10: ("ii", 8), 11: ("f", 4), 12: ("d", 8), 13: ("I", 4), 16: ("Q", 8), 17: ("q", 8), 18: ("Q", 8),
    129: ("s", 1),
}  # fmt: skip


class Rational(NamedTuple):
    """A fraction as written; 0/0 means unknown in EXIF."""

    numerator: int
    denominator: int

    @property
    def value(self) -> float | None:
        """The quotient; None if the denominator is zero."""
        return self.numerator / self.denominator if self.denominator else None


class Broken(NamedTuple):
    """An unreadable field, with the reason."""

    reason: str


Value = str | bytes | tuple[int | float | Rational, ...] | Broken


@dataclass(frozen=True)
class Exif:
    """The main, the Exif and the GPS directory by tag; XMP packets in them; descriptions of damage."""

    main: Mapping[int, Value] = field(default_factory=dict)
    detail: Mapping[int, Value] = field(default_factory=dict)
    gps: Mapping[int, Value] = field(default_factory=dict)
    xmp: tuple[bytes, ...] = ()
    damage: tuple[str, ...] = ()


def number_of(value: Value | None) -> float | None:
    """The finite number of a field with one number of any type; None for anything else."""
    if isinstance(value, bytes):
        return float(value[0]) if len(value) == 1 else None
    if isinstance(value, tuple) and not isinstance(value, Broken) and len(value) == 1:
        one = value[0]
        number = one.value if isinstance(one, Rational) else float(one)
        return number if number is not None and math.isfinite(number) else None
    return None


def text_of(value: Value | None) -> str:
    """The text of a text field, also if it is stored as bytes; empty for anything else."""
    if isinstance(value, bytes):
        value = _decoded(value)
    return value.replace("\x00", " ").strip() if isinstance(value, str) else ""


def quote(value: Value) -> str:
    """A field as quoted in errors."""
    if isinstance(value, Broken):
        return value.reason
    if isinstance(value, str | bytes):
        return f'"{text_of(value)[:60]}"'
    return " ".join(f"{v.numerator}/{v.denominator}" if isinstance(v, Rational) else f"{v:g}" for v in value[:6])


def read_exif(read: Read, wanted: frozenset[int], most_xmp: int) -> Exif:
    """The `wanted` fields of an EXIF block or a TIFF file. Damaged parts are reported; the rest is read."""
    header = read(0, 16)
    order = {b"II": "<", b"MM": ">"}.get(header[:2])
    if order is None or len(header) < 8:
        return Exif(damage=("EXIF is damaged at its beginning",))
    big = struct.unpack_from(order + "H", header, 2)[0] == 43
    if big and len(header) < 16:
        return Exif(damage=("EXIF is damaged at its beginning",))
    reader = _Reader(read, order, big, wanted | {_EXIF_DIRECTORY, _GPS_DIRECTORY}, most_xmp)
    start = struct.unpack_from(order + ("Q" if big else "I"), header, 8 if big else 4)[0]
    main = reader.directory(start, "main")
    detail = reader.directory(_offset(main.pop(_EXIF_DIRECTORY, None)), "Exif")
    # Some programs put the GPS directory below the Exif one.
    gps_at = main.pop(_GPS_DIRECTORY, None)
    gps = reader.directory(_offset(gps_at if gps_at is not None else detail.pop(_GPS_DIRECTORY, None)), "GPS")
    return Exif(main, detail, gps, tuple(reader.xmp), tuple(reader.damage))


def _offset(value: Value | None) -> int | None:
    """The offset of a directory; -1 if its pointer is not a number."""
    if value is None:
        return None
    number = number_of(value)
    return int(number) if number is not None else -1


class _Reader:
    def __init__(self, read: Read, order: str, big: bool, wanted: frozenset[int], most_xmp: int) -> None:
        self._read, self._order, self._big = read, order, big
        self._wanted, self._most_xmp = wanted, most_xmp
        self.xmp: list[bytes] = []
        self.damage: list[str] = []

    def directory(self, start: int | None, name: str) -> dict[int, Value]:
        if start is None:
            return {}
        count_size, entry_size = (8, 20) if self._big else (2, 12)
        head = self._read(start, count_size) if start > 0 else b""
        if len(head) < count_size:
            self.damage.append(f"the {name} directory of EXIF lies outside of its block")
            return {}
        count = struct.unpack(self._order + ("Q" if self._big else "H"), head)[0]
        if count > _MOST_ENTRIES:
            self.damage.append(f"the {name} directory of EXIF claims {count} fields, so it is damaged")
            return {}
        table = self._read(start + count_size, count * entry_size)
        if len(table) < count * entry_size:
            self.damage.append(f"the {name} directory of EXIF is cut off")
        found: dict[int, Value] = {}
        for at in range(0, len(table) - entry_size + 1, entry_size):
            tag, kind, values = struct.unpack_from(self._order + ("HHQ" if self._big else "HHI"), table, at)
            if tag in self._wanted and tag not in found:
                found[tag] = self._value(tag, kind, values, table[at + (12 if self._big else 8) : at + entry_size])
            elif tag == XMP:
                self._packet(kind, values, table[at + (12 if self._big else 8) : at + entry_size])
        return found

    def _bytes(self, size: int, inline: bytes) -> bytes:
        if size <= len(inline):
            return inline[:size]
        return self._read(struct.unpack(self._order + ("Q" if self._big else "I"), inline)[0], size)

    def _value(self, tag: int, kind: int, count: int, inline: bytes) -> Value:
        if kind not in _TYPES:
            return Broken(f"a field of type {kind}, which does not exist")
        form, size = _TYPES[kind]
        if count * size > _LONGEST_VALUE:
            return Broken(f"a field of {count} values, which is damaged")
        raw = self._bytes(count * size, inline)
        if len(raw) < count * size:
            return Broken("a field that lies outside of the EXIF block")
        if kind in _TEXT:
            return _decoded(raw).rstrip("\x00")
        if kind in _BYTES and not (kind == 1 and tag in (_EXIF_DIRECTORY, _GPS_DIRECTORY)):
            return raw
        numbers = struct.unpack(self._order + form * count, raw)
        return tuple(map(Rational, numbers[::2], numbers[1::2])) if len(form) == 2 else numbers

    def _packet(self, kind: int, count: int, inline: bytes) -> None:
        size = count * _TYPES.get(kind, ("", 1))[1]
        if size > self._most_xmp:
            self.damage.append(f"XMP in EXIF claims {size} bytes, more than are read ({self._most_xmp})")
            return
        raw = self._bytes(size, inline)
        if len(raw) < size:
            self.damage.append("XMP in EXIF lies outside of its block")
        self.xmp.append(raw)


def _decoded(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")
