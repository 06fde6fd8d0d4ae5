"""The report's pictures as SVG text: a map, bars, a histogram. No library, no network, sharp in print."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from shapely.geometry.base import BaseGeometry

from transect.census.geometry import FloatArray
from transect.imagery import PALETTE

# Which colours of the palette come first: those that show both on photos and on white paper.
_ORDER = (2, 1, 3, 4, 5, 6, 0)
_INK, _QUIET, _GRID = "#24312b", "#66736c", "#dfe4e0"
# Beyond so many, single footprints and animals are too small to tell apart and would only swell the file.
MOST_SHAPES, MOST_ANIMALS = 2_000, 20_000


def palette_index(species: int) -> int:
    """The colour of a species as an index into transect.imagery.PALETTE."""
    return _ORDER[species % len(_ORDER)]


def colour(species: int) -> str:
    """The colour of a species as `#rrggbb`."""
    return "#{:02x}{:02x}{:02x}".format(*PALETTE[palette_index(species)])


def count_text(value: float | None) -> str:
    """A whole number with thin spaces between thousands; a dash for None."""
    return "–" if value is None else f"{value:,.0f}".replace(",", "\u202f")


@dataclass(frozen=True)
class MapLayers:
    """What the map shows, in grid metres: strata, photos (or transects, where photos are too many), animals."""

    strata: Sequence[tuple[str, BaseGeometry]]
    grounds: Sequence[BaseGeometry]
    labels: Sequence[tuple[str, float, float]]
    animals: FloatArray
    species: Sequence[int]


def draw_map(layers: MapLayers, width: int = 1000) -> str:
    """The map, north up, with a scale bar; `width` is in SVG units. Empty text where there is nothing to draw."""
    shapes = [shape for _, shape in layers.strata] + list(layers.grounds)
    if not shapes:
        return ""
    bounds = np.array([shape.bounds for shape in shapes])
    west, south = bounds[:, :2].min(axis=0)
    east, north = bounds[:, 2:].max(axis=0)
    margin = 0.03 * max(east - west, north - south)
    west, east, south, north = west - margin, east + margin, south - margin, north + margin * 1.6
    # A tall survey is held to a page's height.
    scale = min(width / (east - west), 900 / (north - south))
    height = (north - south) * scale + 34

    def at(x: float, y: float) -> str:
        return f"{(x - west) * scale:.1f} {(north - y) * scale:.1f}"

    def outline(shape: BaseGeometry) -> str:
        parts = getattr(shape, "geoms", [shape])
        rings = [ring for part in parts if part.geom_type == "Polygon" for ring in (part.exterior, *part.interiors)]
        return "".join("M" + "L".join(at(x, y) for x, y in ring.coords) + "Z" for ring in rings)

    body = [f'<path class="stratum" d="{outline(shape)}"/>' for _, shape in layers.strata]
    body.append('<path class="ground" d="' + "".join(outline(shape) for shape in layers.grounds) + '"/>')
    for name, x, y in layers.labels:
        px, py = at(x, y).split()
        body.append(f'<text class="label" x="{px}" y="{py}" dy="-0.45em">{escape(name)}</text>')
    for (x, y), species in zip(layers.animals, layers.species, strict=True):
        px, py = at(x, y).split()
        body.append(f'<circle cx="{px}" cy="{py}" r="3.2" fill="{colour(species)}"/>')
    box = f"0 0 {(east - west) * scale:.0f} {height:.0f}"
    return (
        f'<svg id="map" class="map" viewBox="{box}" role="img" aria-label="Map of the survey">'
        f"<g>{''.join(body)}</g>{_scale_bar(scale, height)}{_north((east - west) * scale)}</svg>"
    )


def _scale_bar(scale: float, height: float) -> str:
    metres = _round_number(170 / scale)
    text = f"{metres / 1000:g} km" if metres >= 1000 else f"{metres:g} m"
    length, y = metres * scale, height - 12
    return (
        f'<g class="furniture"><path d="M10 {y - 5:.0f}V{y:.0f}H{10 + length:.1f}V{y - 5:.0f}" fill="none"/>'
        f'<text x="{18 + length:.1f}" y="{y:.0f}">{text}</text></g>'
    )


def _north(width: float) -> str:
    x = width - 22
    return (
        f'<g class="furniture"><path class="arrow" d="M{x:.0f} 10l6 18l-6 -5l-6 5z"/>'
        f'<text x="{x:.0f}" y="42" text-anchor="middle">N</text></g>'
    )


def draw_bars(names: Sequence[str], counts: Sequence[Sequence[int]], width: int = 1000) -> str:
    """Animals in each transect (`names`), one bar a species; `counts[species][transect]`."""
    if not names or not counts:
        return ""
    top = max((value for row in counts for value in row), default=0)
    limit = _round_number(max(top, 1) * 1.05, up=True)
    left, bottom, height = 46, 210, 190
    slot = (width - left) / len(names)
    bar = max(slot * 0.78 / len(counts), 0.5)
    body = _rules(limit, left, bottom, height, width)
    for index, name in enumerate(names):
        start = left + slot * index + slot * 0.11
        for species, row in enumerate(counts):
            tall = height * row[index] / limit
            body.append(
                f'<rect x="{start + bar * species:.1f}" y="{bottom - tall:.1f}" width="{bar * 0.94:.1f}" '
                f'height="{tall:.1f}" fill="{colour(species)}"><title>{escape(name)}: {row[index]}</title></rect>'
            )
        if len(names) <= 60 or index % math.ceil(len(names) / 60) == 0:
            x = start + slot * 0.39
            turn = f' transform="rotate(-50 {x:.1f} {bottom + 14})" text-anchor="end"' if len(names) > 14 else ""
            anchor = "" if turn else ' text-anchor="middle"'
            body.append(f'<text x="{x:.1f}" y="{bottom + 16}"{anchor}{turn}>{escape(name)}</text>')
    deep = bottom + (64 if len(names) > 14 else 26)
    return _chart(width, deep, body, "Animals counted on each transect")


def draw_histogram(scores: Sequence[FloatArray], width: int = 1000) -> str:
    """How certain the detector was: boxes by score in twenty bins, species stacked."""
    bins = np.linspace(0, 1, 21)
    heights = np.array([np.histogram(one, bins)[0] for one in scores]).reshape(-1, 20)
    top = int(heights.sum(axis=0).max()) if heights.size else 0
    if top == 0:
        return ""
    limit = _round_number(top * 1.05, up=True)
    left, bottom, height = 46, 170, 150
    slot = (width - left) / 20
    body = _rules(limit, left, bottom, height, width)
    below = np.zeros(20)
    for species, row in enumerate(heights):
        for index, value in enumerate(row):
            tall = height * value / limit
            y = bottom - height * below[index] / limit - tall
            if value:
                body.append(
                    f'<rect x="{left + slot * index + 1:.1f}" y="{y:.1f}" width="{slot - 2:.1f}" '
                    f'height="{tall:.1f}" fill="{colour(species)}"/>'
                )
        below += row
    for index in range(0, 21, 2):
        body.append(
            f'<text x="{left + slot * index:.1f}" y="{bottom + 16}" text-anchor="middle">{index / 20:.1f}</text>'
        )
    return _chart(width, bottom + 26, body, "Detections by score")


def _rules(limit: float, left: int, bottom: int, height: int, width: int) -> list[str]:
    body = []
    for part in range(5):
        value = limit * part / 4
        y = bottom - height * part / 4
        body.append(f'<path d="M{left} {y:.1f}H{width}" stroke="{_QUIET if part == 0 else _GRID}"/>')
        text = f"{value:g}" if value < 1000 else count_text(value)
        body.append(f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{text}</text>')
    return body


def _chart(width: int, height: int, body: Sequence[str], title: str) -> str:
    return (
        f'<svg class="chart" viewBox="-14 0 {width + 28} {height}" role="img" aria-label="{escape(title)}" '
        f'fill="{_INK}" font-size="13">{"".join(body)}</svg>'
    )


def _round_number(value: float, *, up: bool = False) -> float:
    """1, 2, 4, 5 or 8 times a power of ten near `value`: the next one above, or the last one below."""
    power = 10.0 ** math.floor(math.log10(value))
    steps = [step * power for step in (1, 2, 4, 5, 8, 10)]
    if up:
        return next(max(step, 4.0) for step in steps if step >= value * (1 - 1e-12))
    return max(step for step in steps if step <= value * (1 + 1e-12))
