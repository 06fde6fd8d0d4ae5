"""The report's charts as SVG: counts on transects, scores. Without a library or network."""

import math
from collections.abc import Sequence

import numpy as np

from transect.arrays import FloatArray
from transect.imagery import PALETTE
from transect.pages.numbers import count_text
from transect.pages.svg import Markup, element

# The order of the palette's colours: first those that are visible both on photos and on white paper.
_ORDER = (2, 1, 3, 4, 5, 6, 0)
INK, QUIET, GRID, _ALERT = "#1f2a25", "#5a6761", "#dde3df", "#a3271f"
_BINS = 25
# So many names fit below the bars; of more, every second or third is written.
_MOST_NAMES = 60


def palette_index(species: int) -> int:
    """The colour of a species as an index into transect.imagery.PALETTE."""
    return _ORDER[species % len(_ORDER)]


def colour(species: int) -> str:
    """The colour of a species as `#rrggbb`."""
    return "#{:02x}{:02x}{:02x}".format(*PALETTE[palette_index(species)])


def axis(top: float) -> list[float]:
    """Five evenly spaced values from 0 to a round number not below `top`."""
    limit = _next_round(max(top, 1e-9))
    return [limit * part / 4 for part in range(5)]


def draw_bars(names: Sequence[str], counts: Sequence[int], species: int, title: str, *, named: bool = True) -> Markup:
    """Animals of one species in each transect; `named` writes the transects below. Empty text where there are none."""
    if not names:
        return Markup()
    width, left, height, top = 1000, 46, 84, 8
    ticks = axis(max(4, *counts))
    bottom = top + height
    slot = (width - left) / len(names)
    bar = min(slot * 0.72, 46.0)
    body = _rules((ticks[0], ticks[2], ticks[4]), left, bottom, height, width)
    turned = max((len(name) for name in names), default=0) * 7 > slot
    for index, (name, count) in enumerate(zip(names, counts, strict=True)):
        middle, tall = left + slot * (index + 0.5), height * count / ticks[-1]
        body.append(
            element(
                "rect",
                element("title", f"{name}: {count}"),
                x=middle - bar / 2,
                y=bottom - tall,
                width=bar,
                height=tall,
                fill=colour(species),
            )
        )
        if named and index % math.ceil(len(names) / _MOST_NAMES) == 0:
            below = bottom + 15
            turn = {"transform": f"rotate(-45 {middle:.1f} {below})"} if turned else {}
            anchor = "end" if turned else "middle"
            body.append(element("text", _short(name), x=middle, y=below, text_anchor=anchor, **turn))
    deep = bottom + (4 if not named else 62 if turned else 24)
    return chart(width, deep, body, title)


def draw_scores(scores: FloatArray, species: int, threshold: float, title: str) -> Markup:
    """Boxes of one species by score in bins of 0.04, with the threshold as a line. Empty text for no boxes."""
    if len(scores) == 0:
        return Markup()
    width, left, height, top = 330, 42, 110, 16
    heights, _ = np.histogram(scores, np.linspace(0, 1, _BINS + 1))
    ticks = axis(max(int(heights.max()), 4))
    bottom, slot = top + height, (width - left) / _BINS
    body = _rules((ticks[0], ticks[2], ticks[4]), left, bottom, height, width)
    for index in np.flatnonzero(heights).tolist():
        tall = height * heights[index] / ticks[-1]
        x, y = left + slot * index + 0.5, bottom - tall
        body.append(element("rect", x=x, y=y, width=slot - 1, height=tall, fill=colour(species)))
    x = left + (width - left) * min(max(threshold, 0.0), 1.0)
    line = f"M{x:.1f} {top - 4}V{bottom}"
    body.append(element("path", d=line, stroke=_ALERT, stroke_width="1.6", stroke_dasharray="4 3"))
    body.append(element("text", f"{threshold:.2f}", x=x, y=top - 6, text_anchor="middle", fill=_ALERT))
    for part in range(6):
        place = left + (width - left) * part / 5
        anchor = "end" if part == 5 else "middle"
        body.append(element("text", f"{part / 5:.1f}", x=place, y=bottom + 15, text_anchor=anchor))
    return chart(width, bottom + 20, body, title)


def _rules(values: Sequence[float], left: int, bottom: int, height: int, width: int) -> list[Markup]:
    body = []
    for value in values:
        y = bottom - height * value / values[-1]
        body.append(element("path", d=f"M{left} {y:.1f}H{width}", stroke=GRID if value else QUIET))
        text = f"{value:g}" if value < 1000 else count_text(value)
        body.append(element("text", text, x=left - 7, y=y + 4, text_anchor="end"))
    return body


def chart(width: int, height: int, body: Sequence[Markup], title: str) -> Markup:
    """A chart of these elements as one SVG, `title` for a reader without eyes."""
    box = f"0 0 {width} {height}"
    attributes = {"class_": "chart", "viewBox": box, "role": "img", "aria_label": title, "fill": INK}
    return element("svg", *body, **attributes, font_size=12)


def _short(name: str, most: int = 12) -> str:
    """A name shortened to fit below a bar; its end is kept, which distinguishes transects."""
    return name if len(name) <= most else "…" + name[1 - most :]


def _next_round(value: float) -> float:
    """1, 2, 4 or 8 times a power of ten, the next one not below `value`."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 4, 8, 10) if step * power >= value * (1 - 1e-12))
