"""Numbers, limits and strange text as a page shows them. Pure."""

import math
import re
from collections.abc import Callable
from typing import Any

# Thin and unbreakable: thousands are readable in every language, and a number stays on one line.
_THIN = "\u202f"
DASH = "–"
_NOT_PLAIN = re.compile(r"[^0-9A-Za-z]")


def count_text(value: float | None) -> str:
    """A whole number with thin spaces between thousands; a dash for None."""
    return DASH if value is None else f"{value:,.0f}".replace(",", _THIN)


def figures(value: float | None, digits: int = 3) -> str:
    """A number to so many significant figures, never in exponents; a dash for None."""
    if value is None:
        return DASH
    if value == 0:
        return "0"
    places = max(digits - 1 - math.floor(math.log10(abs(value))), 0)
    return f"{value:,.{places}f}".replace(",", _THIN)


def number_text(value: float | None) -> str:
    """A count that may be weighted: whole, or with one decimal below a thousand; a dash for None."""
    if value is None or float(value).is_integer() or abs(value) >= 1000:
        return count_text(value)
    return f"{value:.1f}"


def percent(share: float | None, places: int = 1) -> str:
    """A share of 0..1 in percent; a dash for None."""
    return DASH if share is None else f"{100 * share:.{places}f}{_THIN}%"


def limits_text(limits: tuple[float, float] | None) -> str:
    """95% limits as `129 – 811`; a dash for None."""
    return DASH if limits is None else f"{count_text(limits[0])} – {count_text(limits[1])}"


def css_string(text: str) -> str:
    """Escape any text for the inside of a CSS string: all but letters and digits."""
    return _NOT_PLAIN.sub(lambda found: f"\\{ord(found[0]):x} ", text)


FILTERS: dict[str, Callable[..., Any]] = {
    "count": count_text,
    "figures": figures,
    "percent": percent,
    "number": number_text,
    "limits": limits_text,
    "css_string": css_string,
}
"""The filters of a report's template."""
