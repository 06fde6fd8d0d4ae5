import re
from xml.etree import ElementTree

import numpy as np
import pytest
from shapely.geometry import MultiPolygon, Point, box

from transect.census.ground.geometry import Grid
from transect.census.report.charts import colour
from transect.census.report.survey_map import MapLayers, draw_map, mark

# On the middle of a zone, where grid north is true north, a degree north of the equator's false northing.
EAST, NORTH = 500_000.0, 9_830_000.0


def layers(**changes: object) -> MapLayers:
    content: dict[str, object] = {
        "grid": Grid(32736),
        "strata": [("plain", box(EAST, NORTH, EAST + 3000, NORTH + 600))],
        "grounds": [
            box(EAST + 100, NORTH, EAST + 200, NORTH + 600),
            MultiPolygon(
                [box(EAST + 400, NORTH, EAST + 500, NORTH + 90), box(EAST + 400, NORTH + 100, EAST + 500, NORTH + 190)]
            ),
        ],
        "labels": [("T<1>", EAST + 150, NORTH + 600)],
        "animals": np.array([[EAST + 150, NORTH + 300], [EAST + 450, NORTH + 50], [EAST + 460, NORTH + 60]]),
        "species": [0, 1, 1],
    }
    return MapLayers(**(content | changes))  # type: ignore[arg-type] # fields by name


def places(svg: str) -> dict[str, list[tuple[float, float]]]:
    root = ElementTree.fromstring(svg)
    found = {}
    for group in root.iter("g"):
        if group.get("class") == "animals":
            paths = [path.get("d", "") for path in group]
            starts = [re.match(r"M([\d.]+) ([\d.]+)m", path) for path in paths]
            found[group.get("fill", "")] = [(float(m[1]), float(m[2])) for m in starts if m]
    return found


def degrees(svg: str) -> list[str]:
    return [
        text.text or "" for text in ElementTree.fromstring(svg).iter("text") if "degree" in (text.get("class") or "")
    ]


def test_map_shows_every_animal_in_its_colour_and_north_is_up() -> None:
    found = places(draw_map(layers()))
    assert {name: len(marks) for name, marks in found.items()} == {colour(0): 1, colour(1): 2}
    assert found[colour(0)][0][1] < found[colour(1)][0][1]
    # A species differs from the next in form as well, for eyes and printers without colour.
    assert mark(0) != mark(1)


def test_the_scale_bar_is_as_long_as_it_says() -> None:
    svg = draw_map(layers())
    text = next(t for t in ElementTree.fromstring(svg).iter("text") if (t.text or "").endswith((" m", " km")))
    metres = float((text.text or "").split()[0]) * (1000 if "km" in (text.text or "") else 1)
    bar = re.search(r'class="bar"><rect[^>]*/><path d="M[\d.]+ [\d.]+h([\d.]+)', svg)
    assert bar is not None
    first, second = places(draw_map(layers(animals=np.array([[EAST, NORTH], [EAST + metres, NORTH]]), species=[0, 0])))[
        colour(0)
    ]
    # The grid's metre is 0.9996 of the ground's.
    assert second[0] - first[0] == pytest.approx(float(bar[1]) / 0.9996, abs=0.3)


def test_degrees_are_those_of_the_place() -> None:
    named = degrees(draw_map(layers()))
    lon, lat = Grid(32736).inverse(np.array([[EAST + 1500, NORTH + 300]]))[0]
    easts = [float(text.split("°")[0]) for text in named if text.endswith("E")]
    souths = [float(text.split("°")[0]) for text in named if text.endswith("S")]
    assert len(easts) >= 2
    assert min(easts) < lon < max(easts)
    assert any(abs(value + lat) < 0.01 for value in souths)


def test_degrees_count_on_across_the_antimeridian() -> None:
    grid = Grid(32660)
    middle = grid.forward(np.array([180.0]), np.array([10.0]))[0]
    ground = Point(middle).buffer(20_000)
    content = layers(grid=grid, strata=[], grounds=[ground], labels=[], animals=np.empty((0, 2)), species=[])
    named = degrees(draw_map(content))
    assert any(text.startswith("179.") and text.endswith("E") for text in named)
    assert any(text.startswith("179.") and text.endswith("W") for text in named)


def test_map_of_nothing_is_nothing_and_a_point_of_ground_is_drawn() -> None:
    assert draw_map(layers(strata=[], grounds=[])) == ""
    tiny = layers(strata=[], grounds=[box(EAST, NORTH, EAST + 0.5, NORTH + 0.5)], labels=[])
    ElementTree.fromstring(draw_map(tiny))


def test_names_in_the_map_are_only_text() -> None:
    assert "T&lt;1&gt;" in draw_map(layers())
    several = [("<b>", box(EAST, NORTH, EAST + 10, NORTH + 10)), ("&", box(EAST + 20, NORTH, EAST + 30, NORTH + 10))]
    ElementTree.fromstring(draw_map(layers(strata=several)))
