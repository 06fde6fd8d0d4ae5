"""Parse a latitude or longitude in any form: rationals, decimals or text, and its hemisphere."""

import math
import re
from dataclasses import dataclass
from enum import Enum

from transect.imagery.metadata.exif import Broken, Rational, Value, quote, text_of

_UNITS = (1.0, 1 / 60, 1 / 3600)


class Axis(Enum):
    """The axis, with the words for its hemispheres: positive, then negative.

    Words of other languages are accepted if unambiguous: a single O is east in German and west in Spanish, so it is
    not.
    """

    LATITUDE = (
        "north or south",
        frozenset({"n", "north", "northern", "nord", "norte", "norden", "с", "север", "北", "北纬", "北緯"}),
        frozenset({"s", "south", "southern", "süd", "sud", "sur", "sul", "süden", "ю", "юг", "南", "南纬", "南緯"}),
    )
    LONGITUDE = (
        "east or west",
        frozenset({"e", "east", "eastern", "est", "este", "ost", "osten", "в", "восток", "东", "東", "东经", "東経"}),
        frozenset({"w", "west", "western", "ouest", "oeste", "ovest", "westen", "з", "запад", "西", "西经", "西経"}),
    )

    def sign_of(self, word: str) -> int | None:
        """+1 or -1 for the name of a hemisphere, None for any other word."""
        word = word.casefold()
        return 1 if word in self.value[1] else -1 if word in self.value[2] else None


@dataclass(frozen=True)
class Coordinate:
    """Unsigned degrees, the sign (None without a hemisphere) and the step of the last written digit."""

    degrees: float
    sign: int | None
    rounding_deg: float
    # The unreadable text in place of a hemisphere.
    reference: str = ""

    @property
    def signed(self) -> float:
        """Degrees, north and east positive. Only valid if the sign is known."""
        return self.degrees if self.sign is None else self.sign * self.degrees


class CoordinateError(Exception):
    """A position that is there and cannot be used; the message is the problem. It stays inside this package."""


@dataclass(frozen=True)
class _Part:
    """Degrees, minutes or seconds: the number (None for 0/0) and the step of its last digit."""

    value: float | None
    step: float


def exif_coordinate(value: Value | None, reference: Value | None, axis: Axis) -> Coordinate | None:
    """A coordinate from the EXIF field and its reference; None if absent. Raises CoordinateError if unreadable.

    The sign comes from the reference, or from a minus or a letter in the field itself. A minus with `S` is
    redundant; with `N` it is a contradiction.
    """
    name = axis.name.lower()
    if value is None or (isinstance(value, str | bytes) and not text_of(value)):
        return None
    if isinstance(value, Broken):
        raise CoordinateError(f"EXIF has a {name} that cannot be read: {value.reason}")
    if isinstance(value, str | bytes):
        found = parse_coordinate(text_of(value), axis, comma="")
    else:
        found = _combined([_part(one) for one in value]) if len(value) <= 3 else None
    if found is None:
        raise CoordinateError(f"EXIF gives the {name} as {quote(value)}, which is no angle")
    return _with_reference(found, reference, axis, f"EXIF gives the {name} as {quote(value)}")


def _with_reference(found: Coordinate, reference: Value | None, axis: Axis, field_text: str) -> Coordinate:
    word = reference.reason if isinstance(reference, Broken) else _word(reference)
    sign = axis.sign_of(word)
    if sign is None:
        return Coordinate(found.degrees, found.sign, found.rounding_deg, word)
    if found.sign is not None and found.sign != sign and found.degrees:
        raise CoordinateError(f'{field_text} with "{word}", which contradict one another')
    return Coordinate(found.degrees, sign, found.rounding_deg)


def _word(reference: Value | None) -> str:
    """The first word of a reference of any type; character codes are converted to characters."""
    if isinstance(reference, tuple) and not isinstance(reference, Broken):
        codes = [one for one in reference if isinstance(one, int) and 0 < one < 128]
        text = "".join(map(chr, codes))
    else:
        text = text_of(reference)
    found = re.search(r"[^\W_]+", text)
    return found[0] if found else text


def _part(one: float | Rational) -> _Part:
    if not isinstance(one, Rational):
        return _decimal_part(f"{one!r}") if isinstance(one, float) else _Part(float(one), 1.0)
    if one.denominator == 0:
        # 0/0 is unknown; any other division by zero is damage.
        return _Part(None if one.numerator == 0 else math.inf, 1.0)
    return _Part(one.numerator / one.denominator, math.gcd(one.numerator, one.denominator) / abs(one.denominator))


def _decimal_part(text: str) -> _Part:
    number = text.lstrip("+-")
    if "/" in number:
        above, _, below = number.partition("/")
        return _part(Rational(int(above), int(below))) if above.isdigit() and below.isdigit() else _Part(math.inf, 1)
    try:
        value = float(text)
    except ValueError:
        return _Part(math.inf, 1.0)
    digits = number.partition("e")[0].partition(".")[2]
    return _Part(value, 10.0 ** -len(digits) if digits.strip("0") or "e" in number else 1.0)


def _combined(parts: list[_Part]) -> Coordinate | None:
    """Combine degrees, minutes and seconds; None if a significant part is unknown, or the parts are inconsistent.

    Some programs do not carry, so an angle may be all in minutes, or seconds may exceed 60. Others write the same angle
    in each of the three, so only the last nonzero part may have decimals.

    A final 0/0 is ignored if the part before it has decimals; otherwise the position is unknown to a minute or a
    degree. Trailing zeros may not be measured: the step is that of the last nonzero part.
    """
    while len(parts) > 1 and parts[-1].value is None and parts[-2].step < 1:
        parts = parts[:-1]
    values = [part.value for part in parts]
    if not values or any(value is None or not math.isfinite(value) for value in values):
        return None
    numbers = [value or 0.0 for value in values]
    last = max((at for at, number in enumerate(numbers) if number), default=0)
    if any(number % 1 for number in numbers[:last]) or any(abs(number) > 3600 for number in numbers[2:]):
        return None
    if numbers[0] and any(abs(number) > 60 for number in numbers[1:2]):
        return None
    if numbers[0] > 0 and min(numbers) < 0:
        return None
    degrees = sum(abs(number) * unit for number, unit in zip(numbers, _UNITS, strict=False))
    return Coordinate(degrees, -1 if any(number < 0 for number in numbers) else None, parts[last].step * _UNITS[last])


_SPACES = re.compile(
    r"[\s°º˚'\u2019\u2032\"\u201d\u2033:;]+|(?<=\d)\s*(?:degrees?|deg|d|min|m|sec|s)(?![^\W\d_])", re.IGNORECASE
)
_WORD_FIRST = re.compile(r"\s*([^\W\d_]+)[\s.:]*(?=[-+.\d])(.*)", re.DOTALL)
_WORD_LAST = re.compile(r"(.*[\d°º˚'\u2019\u2032\"\u201d\u2033.])\s*([^\W\d_]+)\.?\s*", re.DOTALL)
_PART = re.compile(r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d{1,2}|/\d+)?", re.ASCII)


def parse_coordinate(text: str, axis: Axis, *, comma: str) -> Coordinate | None:
    """Parse a coordinate: `1.497`, `-1.497`, `1 29 49.2`, `1°29'49.2"S`, `S 1 29.82`, `1,29.82S`.

    `comma` is the meaning of a single comma between two whole numbers: `minutes` (XMP's own form), `decimal`, or
    ambiguous (empty), so that the text is not read. None if it is not a coordinate or ambiguous.
    """
    text = text.strip("\x00 \t\r\n").replace("\u2212", "-")
    if len(text) > 100:
        return None
    sign: int | None = None
    for pattern, word_at, rest_at in ((_WORD_LAST, 2, 1), (_WORD_FIRST, 1, 2)):
        found = pattern.fullmatch(text)
        # The s of `1d29m49.2s` is seconds, not south.
        seconds = found is not None and found[word_at] == "s" and re.search(r"\d\s*m(?:in)?[\s\d]", text)
        if found is not None and not seconds and axis.sign_of(found[word_at]) is not None:
            sign, text = axis.sign_of(found[word_at]), found[rest_at].strip()
            break
    spaced = _SPACES.sub(" ", text).strip()
    pieces = _pieces(spaced, comma if sign is not None or comma == "decimal" else "")
    if pieces is None or not 1 <= len(pieces) <= 3 or not all(map(_PART.fullmatch, pieces)):
        return None
    coordinate = _combined([_decimal_part(piece) for piece in pieces])
    if coordinate is None:
        return None
    own = -1 if coordinate.sign == -1 or spaced.startswith("-") else None
    if own is None:
        return Coordinate(coordinate.degrees, sign, coordinate.rounding_deg)
    # A minus beside north is a contradiction.
    return None if sign == 1 and coordinate.degrees else Coordinate(coordinate.degrees, own, coordinate.rounding_deg)


def _pieces(text: str, comma: str) -> list[str] | None:
    """The numbers of a text: a comma separates them or is the decimal point; None if that is ambiguous."""
    if "," not in text:
        return text.split()
    if " " in text.replace(", ", ","):
        # Blanks separate the numbers, so commas are decimal.
        return None if "." in text else text.replace(",", ".").split()
    pieces = text.replace(" ", "").split(",")
    if len(pieces) == 3 or (len(pieces) == 2 and "." in text):
        return pieces
    if len(pieces) != 2 or not pieces[1].isdigit():
        return None
    if comma == "minutes" and len(pieces[1]) <= 2 and int(pieces[1]) < 60:
        return pieces
    return [".".join(pieces)] if comma == "decimal" or len(pieces[1]) > 2 else None
