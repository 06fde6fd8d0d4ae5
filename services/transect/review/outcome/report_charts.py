"""The charts of a review's report as SVG. Without a library or network, pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from transect.census.report.charts import INK, QUIET, chart
from transect.pages.svg import Markup, element

_WIDTH, _LEFT, _RIGHT = 340, 86, 64
_ROW, _BAR, _TOP = 26, 14, 6
_GRID = "#dde3df"


def draw_shares(bins: Sequence[Mapping[str, Any]], colour: str, title: str) -> Markup:
    """The share of each bin's boxes that are animals, with its limits; a bin of which nothing is known says so."""
    scale = (_WIDTH - _LEFT - _RIGHT) / 100
    bottom = _TOP + _ROW * len(bins)
    body = []
    for tick in range(0, 101, 25):
        x = _LEFT + tick * scale
        body.append(element("path", d=f"M{x:.1f} {_TOP}V{bottom}", stroke=_GRID if tick else QUIET))
        if tick % 50 == 0:
            body.append(element("text", f"{tick}%", x=x, y=bottom + 15, text_anchor="middle"))
    for number, one in enumerate(bins):
        middle = _TOP + _ROW * (number + 0.5)
        body += _bar(one, middle, scale, colour)
    return chart(_WIDTH, bottom + 20, body, title)


def _bar(one: Mapping[str, Any], middle: float, scale: float, colour: str) -> list[Markup]:
    name = f"{one['low']:.2f} – {one['high']:.2f}"
    decided = one["reviewed"] + one["by_choice"]
    body = [
        element("text", name, x=_LEFT - 8, y=middle + 4, text_anchor="end"),
        element("text", f"{decided} of {one['boxes']}", x=_WIDTH, y=middle + 4, text_anchor="end", fill=QUIET),
    ]
    if one["share"] is None:
        said = "all were chosen" if one["animals"] is not None else "not known"
        return [*body, element("text", said, x=_LEFT + 6, y=middle + 4, fill=QUIET, font_style="italic")]
    # Those that the census does not count are pale.
    full = {} if one["counted"] else {"fill_opacity": "0.4"}
    body.append(
        element(
            "rect",
            x=_LEFT,
            y=middle - _BAR / 2,
            width=100 * one["share"] * scale,
            height=_BAR,
            fill=colour,
            **full,
        )
    )
    low, high = (_LEFT + 100 * limit * scale for limit in one["share_ci95"])
    ends = f"M{low:.1f} {middle - 4:.1f}v8M{high:.1f} {middle - 4:.1f}v8"
    whisker = f"M{low:.1f} {middle:.1f}H{high:.1f}{ends}"
    return [*body, element("path", d=whisker, stroke=INK, stroke_width="1.3", fill="none")]
