"""The map of a survey as SVG: strata, photographed ground, animals by species; frame in degrees, scale, north."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from shapely.geometry.base import BaseGeometry

from transect.arrays import FloatArray
from transect.census.ground.geometry import Grid
from transect.census.lonlat import unwrap_longitudes
from transect.census.report.charts import colour
from transect.pages.svg import Markup, element

# Beyond so many, single footprints and animals are too small to distinguish and would only enlarge the file.
MOST_SHAPES, MOST_ANIMALS = 2_000, 20_000
_MOST_LABELS = 60
# In SVG units: the drawing's width, its greatest height (a page's), and the room for degrees, scale and north.
_WIDTH, _TALLEST, _LEFT, _BELOW, _ABOVE, _RIGHT = 1000.0, 1000.0, 66.0, 70.0, 6.0, 2.0
_EDGE_POINTS = 33
# The least visible size in SVG units.
_FINEST = 0.15
_STEPS_DEG = tuple(step * 10.0**power for power in range(-5, 2) for step in (1, 2, 5))
# Marks that differ in form too, for print in black and white; each is as large as a circle of radius 3.
_MARKS = (
    "m-3 0a3 3 0 1 0 6 0a3 3 0 1 0-6 0z",
    "m-2.7-2.7h5.4v5.4h-5.4z",
    "m0-3.6l3.5 6h-7z",
    "m0-3.8l3.8 3.8l-3.8 3.8l-3.8-3.8z",
    "m0 3.6l3.5-6h-7z",
    "m-1.2-3.6h2.4v2.4h2.4v2.4h-2.4v2.4h-2.4v-2.4h-2.4v-2.4h2.4z",
)


@dataclass(frozen=True)
class MapLayers:
    """The map's layers, in grid metres: strata, photos (or transects, where photos are too many), animals.

    `labels` are (name, x, y); `animals` (n, 2) with the numbers of their `species` (n,).
    """

    grid: Grid
    strata: Sequence[tuple[str, BaseGeometry]]
    grounds: Sequence[BaseGeometry]
    labels: Sequence[tuple[str, float, float]]
    animals: FloatArray
    species: Sequence[int]


@dataclass(frozen=True)
class _Frame:
    """Grid metres to SVG units: the corner at west and north, and units a metre."""

    west: float
    south: float
    east: float
    north: float
    scale: float

    @classmethod
    def around(cls, shapes: Sequence[BaseGeometry]) -> "_Frame":
        bounds = np.array([shape.bounds for shape in shapes])
        west, south = (float(value) for value in bounds[:, :2].min(axis=0))
        east, north = (float(value) for value in bounds[:, 2:].max(axis=0))
        margin = 0.04 * max(east - west, north - south, 1.0)
        west, east, south, north = west - margin, east + margin, south - margin, north + margin
        room = _WIDTH - _LEFT - _RIGHT
        scale = min(room / (east - west), _TALLEST / (north - south))
        # A tall survey does not fill the width; it stands in the middle.
        spare = (room / scale - (east - west)) / 2
        return cls(west - spare, south, east + spare, north, scale)

    @property
    def height(self) -> float:
        return (self.north - self.south) * self.scale

    def x(self, easting: float) -> float:
        return _LEFT + (easting - self.west) * self.scale

    def y(self, northing: float) -> float:
        return _ABOVE + (self.north - northing) * self.scale

    def at(self, easting: float, northing: float) -> str:
        return f"{self.x(easting):.1f} {self.y(northing):.1f}"


def mark(species: int) -> str:
    """The form of a species' mark: an SVG path relative to its middle."""
    return _MARKS[species % len(_MARKS)]


def draw_map(layers: MapLayers) -> Markup:
    """The map, grid north up. Empty text where there is nothing to draw."""
    shapes = [shape for _, shape in layers.strata] + list(layers.grounds)
    if not shapes:
        return Markup()
    frame = _Frame.around(shapes)
    body = [element("path", class_="stratum", d=_outline(shape, frame)) for _, shape in layers.strata]
    body.append(element("path", class_="ground", d="".join(_outline(shape, frame) for shape in layers.grounds)))
    body += _animals(layers, frame)
    for name, x, y in layers.labels[:_MOST_LABELS]:
        body.append(element("text", name, class_="label", x=frame.x(x), y=frame.y(y) - 4))
    for name, shape in layers.strata if len(layers.strata) > 1 else ():
        west, south, *_ = shape.bounds
        body.append(element("text", name, class_="label region", x=frame.x(west) + 6, y=frame.y(south) - 7))
    across = _WIDTH - _LEFT - _RIGHT
    window = {"x": _LEFT, "y": _ABOVE, "width": across, "height": frame.height}
    return element(
        "svg",
        element("rect", class_="sheet", **window),
        _degrees(layers.grid, frame),
        element("svg", *body, class_="view", **window, viewBox=f"{_LEFT} {_ABOVE} {across:.1f} {frame.height:.1f}"),
        element("rect", class_="neat", **window),
        element("g", *_scale_bar(layers.grid, frame), *_north(layers.grid, frame), class_="furniture"),
        id="map",
        class_="map",
        viewBox=f"0 0 {_WIDTH:.0f} {_ABOVE + frame.height + _BELOW:.0f}",
        role="img",
        aria_label="Map of the study area, the photographed ground and the animals",
    )


def _outline(shape: BaseGeometry, frame: _Frame) -> str:
    shape = shape.simplify(_FINEST / frame.scale, preserve_topology=False)
    parts = getattr(shape, "geoms", [shape])
    rings = [ring for part in parts if part.geom_type == "Polygon" for ring in (part.exterior, *part.interiors)]
    return "".join("M" + "L".join(frame.at(x, y) for x, y in ring.coords) + "Z" for ring in rings)


def _animals(layers: MapLayers, frame: _Frame) -> list[Markup]:
    body = []
    species = np.asarray(layers.species, np.int64)
    for number in np.unique(species).tolist():
        places = layers.animals[species == number].tolist()
        marks = (element("path", d=f"M{frame.at(x, y)}{mark(number)}") for x, y in places)
        body.append(element("g", *marks, class_="animals", fill=colour(number)))
    return body


def _degrees(grid: Grid, frame: _Frame) -> Markup:
    """Meridians and parallels across the frame, named at its left and lower edge.

    Drawn straight between the frame's edges, which they leave by less than a line's width on a survey's scale.
    """
    along = np.linspace(0.0, 1.0, _EDGE_POINTS)
    xs, ys = frame.west + along * (frame.east - frame.west), frame.south + along * (frame.north - frame.south)

    def edge(x: FloatArray | float, y: FloatArray | float) -> FloatArray:
        return grid.inverse(np.stack(np.broadcast_arrays(x, y), axis=-1).astype(np.float64))

    below, above = (unwrap_longitudes(edge(xs, y)[:, 0]) for y in (frame.south, frame.north))
    above += 360 * np.round((below[0] - above[0]) / 360)
    left, right = (edge(x, ys)[:, 1] for x in (frame.west, frame.east))
    lines, names = [], []
    for value, text in _ticks(below, "E", "W"):
        start, end = float(np.interp(value, below, xs)), float(np.interp(value, above, xs))
        lines.append(f"M{frame.at(start, frame.south)}L{frame.at(end, frame.north)}")
        names.append(element("text", text, class_="degree", x=frame.x(start), y=_ABOVE + frame.height + 16))
    for value, text in _ticks(left, "N", "S"):
        start, end = float(np.interp(value, left, ys)), float(np.interp(value, right, ys))
        lines.append(f"M{frame.at(frame.west, start)}L{frame.at(frame.east, end)}")
        names.append(element("text", text, class_="degree side", x=_LEFT - 6, y=frame.y(start) + 4))
    return element("g", element("path", d="".join(lines)), *names, class_="grid")


def _ticks(degrees: FloatArray, positive: str, negative: str) -> list[tuple[float, str]]:
    """Round values within ascending `degrees`, at most six, with their names."""
    low, high = float(degrees[0]), float(degrees[-1])
    step = next((one for one in _STEPS_DEG if (high - low) / one <= 6), _STEPS_DEG[-1])
    places = max(-math.floor(math.log10(step) + 1e-9), 0)
    found = []
    for number in range(math.ceil(low / step), math.floor(high / step) + 1):
        value = number * step
        shown = (value + 180) % 360 - 180 if positive == "E" else value
        found.append((value, f"{abs(shown):.{places}f}° {positive if shown >= 0 else negative}"))
    return found


def _scale_bar(grid: Grid, frame: _Frame) -> tuple[Markup, Markup]:
    """A bar of a round length on the ground, at the middle of the map."""
    middle = np.array([[(frame.west + frame.east) / 2, (frame.south + frame.north) / 2]])
    unit = frame.scale * float(grid.scale_at(middle)[0])
    longest = 190 / unit
    power = 10.0 ** math.floor(math.log10(longest))
    metres = max(step * power for step in (1, 2, 5) if step * power <= longest)
    text = f"{metres / 1000:g} km" if metres >= 1000 else f"{metres:g} m"
    length, left, y = metres * unit, _LEFT, _ABOVE + frame.height + 50
    half = element("rect", x=left, y=y - 6, width=length / 2, height=6)
    whole = element("path", d=f"M{left:.1f} {y - 6:.1f}h{length:.1f}v6h{-length:.1f}z")
    return element("g", half, whole, class_="bar"), element("text", text, x=left + length + 8, y=y + 1)


def _north(grid: Grid, frame: _Frame) -> tuple[Markup, Markup]:
    """An arrow to true north, which differs from the grid's by the convergence of the meridians."""
    middle = np.array([[(frame.west + frame.east) / 2, (frame.south + frame.north) / 2]])
    lon, lat = grid.inverse(middle)[0]
    turn = -float(grid.factors(np.array([lon]), np.array([lat]))[0][0])
    x, y = _WIDTH - _RIGHT - 14, _ABOVE + frame.height + 45
    turned = f"rotate({turn:.2f} {x:.1f} {y:.1f})"
    return (
        element("path", class_="arrow", transform=turned, d=f"M{x:.1f} {y - 15:.1f}l8 28l-8 -6l-8 6z"),
        element("text", "N", x=x - 14, y=y + 6, text_anchor="end"),
    )
