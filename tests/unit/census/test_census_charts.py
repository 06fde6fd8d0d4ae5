from xml.etree import ElementTree

import numpy as np
import pytest

from transect.census.report.charts import axis, draw_bars, draw_scores


def heights_of(svg: str) -> list[float]:
    return [float(bar.get("height", "0")) for bar in ElementTree.fromstring(svg).findall("rect")]


def test_bars_are_well_formed_and_as_tall_as_their_counts() -> None:
    heights = heights_of(draw_bars(["A & B", "<C>", "D"], [10, 0, 20], 1, 'animals of "A & B"'))
    assert heights[2] == pytest.approx(2 * heights[0], abs=0.2)
    assert heights[1] == 0
    assert draw_bars([], [], 0, "none") == ""


def test_long_and_many_names_below_the_bars_stay_readable() -> None:
    root = ElementTree.fromstring(draw_bars([f"a very long name {i}" for i in range(200)], [1] * 200, 0, "many"))
    names = [text for text in root.findall("text") if text.get("transform")]
    assert 50 <= len(names) <= 60
    assert all(len(text.text or "") <= 12 for text in names)
    assert (names[1].text or "").endswith("name 4")


def test_scores_of_0_and_1_are_drawn_and_the_threshold_stands_where_it_is() -> None:
    svg = draw_scores(np.array([0.0, 1.0, 1.0, 0.97]), 0, 0.25, "scores")
    heights = heights_of(svg)
    assert sorted(heights) == pytest.approx([min(heights), 3 * min(heights)], abs=0.3)
    root = ElementTree.fromstring(svg)
    line = next(path for path in root.findall("path") if path.get("stroke-dasharray"))
    assert line.get("d", "").startswith("M114.0 ")
    assert draw_scores(np.empty(0), 0, 0.25, "none") == ""


@pytest.mark.parametrize(("top", "limit"), [(3, 4), (4, 4), (5, 8), (790, 800), (801, 1000), (0.3, 0.4)])
def test_axes_end_at_the_next_round_number(top: float, limit: float) -> None:
    assert axis(top) == pytest.approx([0, limit / 4, limit / 2, 3 * limit / 4, limit])
