from xml.etree import ElementTree

import numpy as np
import pytest
from shapely.geometry import MultiPolygon, box

from transect.census.charts import MapLayers, colour, count_text, draw_bars, draw_histogram, draw_map


def layers(**changes: object) -> MapLayers:
    content: dict[str, object] = {
        "strata": [("plain", box(0, 0, 3000, 600))],
        "grounds": [box(100, 0, 200, 600), MultiPolygon([box(400, 0, 500, 90), box(400, 100, 500, 190)])],
        "labels": [("T<1>", 150, 600)],
        "animals": np.array([[150.0, 300.0], [450.0, 50.0]]),
        "species": [0, 1],
    }
    return MapLayers(**(content | changes))  # type: ignore[arg-type] # fields by name


def test_map_is_well_formed_and_shows_every_animal_in_its_colour() -> None:
    root = ElementTree.fromstring(draw_map(layers()))
    circles = root.findall(".//circle")
    assert [circle.get("fill") for circle in circles] == [colour(0), colour(1)]
    # North is up: the animal at y = 300 is above the one at y = 50.
    assert float(circles[0].get("cy", "0")) < float(circles[1].get("cy", "0"))
    assert "500 m" in "".join(root.itertext())


def test_map_of_nothing_is_nothing() -> None:
    assert draw_map(layers(strata=[], grounds=[])) == ""


def test_bars_are_well_formed_and_as_tall_as_their_counts() -> None:
    root = ElementTree.fromstring(draw_bars(["A & B", "C"], [[10, 0], [5, 20]]))
    heights = [float(bar.get("height", "0")) for bar in root.findall("rect")]
    assert heights[0] == pytest.approx(2 * heights[1], abs=0.2)
    assert heights[3] == pytest.approx(2 * heights[0], abs=0.2)
    assert heights[2] == 0
    ElementTree.fromstring(draw_bars([f"T{i}" for i in range(200)], [[1] * 200]))
    assert draw_bars([], [[]]) == ""


def test_histogram_holds_every_score_also_0_and_1() -> None:
    root = ElementTree.fromstring(draw_histogram([np.array([0.0, 1.0, 1.0]), np.array([0.97])]))
    heights = [float(bar.get("height", "0")) for bar in root.findall("rect")]
    assert sum(heights) == pytest.approx(4 * min(heights), abs=0.5)
    assert draw_histogram([np.empty(0)]) == ""


@pytest.mark.parametrize(
    ("value", "text"), [(None, "–"), (0, "0"), (999.6, "1\u202f000"), (1234567, "1\u202f234\u202f567")]
)
def test_counts_are_grouped(value: float | None, text: str) -> None:
    assert count_text(value) == text
