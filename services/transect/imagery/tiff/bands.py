"""Choose the bands of a TIFF to read: those named red, green and blue, or those requested."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from transect.errors import ImageError
from transect.wording import count_of

_COLOURS = ("red", "green", "blue")
_SHORT = {"r": "red", "g": "green", "b": "blue"}
# Words in names of invisible bands: "red edge" is not red.
_NOT_VISIBLE = frozenset({"edge", "rededge", "nir", "infrared", "near", "re", "swir", "coastal", "pan"})


@dataclass(frozen=True)
class Channels:
    """Band numbers from 1, one for grey and palettes, three for RGB, four for CMYK; and a remark on their choice."""

    bands: tuple[int, ...]
    kind: Literal["grey", "palette", "rgb", "cmyk"]
    remark: str = ""


def choose_channels(
    label: str, colours: Sequence[str], names: Sequence[str | None], requested: Sequence[int] | None
) -> Channels:
    """Choose the bands. `colours` are GDAL's interpretations, `names` the bands' descriptions, one each.

    Raises ImageError for requested bands that do not exist, or for five or more bands without colour names.
    """
    count = len(colours)
    if requested is not None:
        return _requested(label, count, requested)
    by_colour = _by_colour(colours)
    by_name = _by_name(names)
    if by_name is not None:
        contradicts = by_colour is not None and by_colour != by_name
        remark = (
            f"its bands are named red, green and blue in the order {_listed(by_name)}, and read so."
            if contradicts
            else ""
        )
        return Channels(by_name, "rgb", remark)
    if by_colour is not None:
        return Channels(by_colour, "rgb")
    return _as_stored(colours) or _unnamed(label, count)


def _as_stored(colours: Sequence[str]) -> Channels | None:
    """CMYK, a palette or one grey band; None for others."""
    if tuple(colours[:4]) == ("cyan", "magenta", "yellow", "black"):
        return Channels((1, 2, 3, 4), "cmyk")
    if colours[0] == "palette":
        return Channels((1,), "palette")
    grey = len(colours) == 1 or (len(colours) == 2 and colours[1] == "alpha")
    return Channels((1,), "grey") if grey else None


def _unnamed(label: str, count: int) -> Channels:
    """The bands of a file without colour names. Raises ImageError for five and more."""
    if count == 2:
        return Channels((1,), "grey", "it has two bands and does not say what they are: the first is taken as grey.")
    if count <= 4:
        remark = (
            f"it does not say which of its {count} bands are red, green and blue: the first three are taken "
            "(`bands` in a survey.yaml names others)."
        )
        return Channels((1, 2, 3), "rgb", remark)
    raise ImageError(
        f"{label} has {count} bands and none is named a colour; write the numbers of the red, green and blue ones, "
        "such as `bands: [3, 2, 1]` in survey.yaml, or export it as RGB."
    )


def _requested(label: str, count: int, requested: Sequence[int]) -> Channels:
    if max(requested) > count:
        bands = count_of(count, "band")
        raise ImageError(f"{label} has {bands}, and band {max(requested)} was asked for with `bands`.")
    return Channels(tuple(requested), "rgb" if len(requested) == 3 else "grey")


def _by_colour(colours: Sequence[str]) -> tuple[int, ...] | None:
    if all(colour in colours for colour in _COLOURS):
        return tuple(list(colours).index(colour) + 1 for colour in _COLOURS)
    return None


def _by_name(names: Sequence[str | None]) -> tuple[int, ...] | None:
    """The bands whose names contain one colour each; None if a colour is missing or duplicate."""
    found: dict[str, int] = {}
    for number, name in enumerate(names, start=1):
        words = re.findall(r"[a-z]+", (name or "").lower())
        colour = {_SHORT.get(word, word) for word in words} & set(_COLOURS)
        if len(colour) != 1 or _NOT_VISIBLE & set(words):
            continue
        if colour <= found.keys():
            return None
        found[colour.pop()] = number
    return tuple(found[colour] for colour in _COLOURS) if len(found) == 3 else None


def _listed(bands: Sequence[int]) -> str:
    return ", ".join(map(str, bands))
