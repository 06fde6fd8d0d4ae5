"""Parse numbers in metadata: points and commas, signs, fractions, units."""

import math
import re

_DECIMAL = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?", re.ASCII)
_FRACTION = re.compile(r"(?P<above>[+-]?\d+(?:\.\d+)?)\s*/\s*(?P<below>[+-]?\d+(?:\.\d+)?)", re.ASCII)
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(?:,\d{3})+\.\d+|[+-]?\d{1,3}(?:\.\d{3})+,\d+", re.ASCII)
_WITH_UNIT = re.compile(r"(?P<number>.*\d[.,]?)\s*(?P<unit>[^\W\d_]+\.?|[°º˚])", re.ASCII | re.DOTALL)
# The international foot of 1959, used in aviation.
_METRES = {
    "m": 1.0,
    "metre": 1.0,
    "metres": 1.0,
    "meter": 1.0,
    "meters": 1.0,
    "ft": 0.3048,
    "foot": 0.3048,
    "feet": 0.3048,
}
_DEGREES = frozenset({"°", "º", "˚", "deg", "degree", "degrees"})
# No number in metadata is longer; the limit bounds the search.
_LONGEST = 64


def read_number(text: str) -> float | None:
    """Parse a finite number such as `+61.30`, `-45,00`, `613/10`, `1.234,5`; None for any other text.

    A single comma is a decimal comma: no camera writes it as a thousands separator, and many programs write numbers in
    their locale. `+-5.0` results from a plus sign before a negative number.
    """
    text = text.strip("\x00 \t\r\n").replace("\u2212", "-")
    if len(text) > _LONGEST:
        return None
    text = text.removeprefix("+") if text.startswith("+-") else text
    fraction = _FRACTION.fullmatch(text)
    if fraction is not None:
        below = float(fraction["below"])
        return _finite(float(fraction["above"]) / below) if below else None
    if _THOUSANDS.fullmatch(text):
        text = text.replace(",", "") if text.rindex(".") > text.rindex(",") else text.replace(".", "")
    if text.count(",") == 1 and "." not in text:
        text = text.replace(",", ".")
    return _finite(float(text)) if _DECIMAL.fullmatch(text) else None


def read_metres(text: str) -> float | None:
    """Parse a length in metres; a unit may follow (`60.0 m`, `197 ft`)."""
    number, unit = _parted(text)
    factor = _METRES.get(unit, 0.0) if unit else 1.0
    return None if number is None or not factor else number * factor


def read_degrees(text: str) -> float | None:
    """Parse an angle in degrees, from -360 to 360; a unit may follow (`-90°`, `-90 deg`)."""
    number, unit = _parted(text)
    if number is None or (unit and unit not in _DEGREES):
        return None
    return number if abs(number) <= 360 else None


def decimals(text: str) -> int:
    """The number of digits after the decimal point or comma."""
    return len(text) - 1 - at if (at := max(text.rfind("."), text.rfind(","))) >= 0 else 0


def _parted(text: str) -> tuple[float | None, str]:
    text = text.strip("\x00 \t\r\n")
    number = read_number(text)
    if number is not None or len(text) > _LONGEST:
        return number, ""
    found = _WITH_UNIT.fullmatch(text)
    return (read_number(found["number"]), found["unit"].rstrip(".").lower()) if found else (None, "")


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None
