import math
import re
from html.parser import HTMLParser

import pytest

from transect.engine import COUNT_ERROR, MAP50_95, RECALL, Gain, PairedComparison
from transect.registry import GateConfig, Measured
from transect.registry.promotion.gate import Evidence, Latency
from transect.registry.promotion.report import verdict_page

_GAINS = {
    MAP50_95: Gain(0.6, 0.5, 0.1, 0.05, 0.15),
    RECALL: Gain(0.7, 0.9, -0.2, -0.3, -0.1),
    COUNT_ERROR: Gain(0.0, 0.1, 0.1, 0.0, 0.2),
}
_MODEL = Measured(map50=0.8, map50_95=0.6, precision=0.9, recall=None, count_error=-0.1, precision_used="bf16")


class _Rows(HTMLParser):
    """The text of each table row, and which rows are marked as bad."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.bad: list[int] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self.rows.append([])
            if ("class", "bad") in attrs:
                self.bad.append(len(self.rows) - 1)

    def handle_data(self, data: str) -> None:
        if self.rows and data.strip():
            self.rows[-1].append(data)


def test_the_page_shows_both_models_and_marks_what_a_class_lost_too_much_of() -> None:
    paired = PairedComparison(
        images=12, confidence=0.95, instances={"<cow>": 7}, overall=_GAINS, classes={"<cow>": _GAINS}
    )
    evidence = Evidence(
        _MODEL, _MODEL, paired, Latency(candidate_ms=20, production_ms=10, ratio=2, ratio_low=1.5, images=8, rounds=7)
    )
    page = verdict_page("detector version 2 <b>", ["it is <worse>"], evidence, GateConfig())
    assert "<worse>" not in page
    assert "<cow>" not in page
    found = _Rows(page)
    (bad,) = found.bad
    assert found.rows[bad] == ["<cow>", "7", "recall", "0.700", "0.900", "-0.200", "-0.300 to -0.100", "0.030"]
    assert ["recall", "-", "-"] in found.rows
    assert any(row[-2:] == ["candidate", "production"] for row in found.rows)
    assert ["runs in", "bf16", "bf16"] in [row[:3] for row in found.rows]
    assert page.count("<svg") == 6
    assert "2.00 times as long" in page


def test_limits_are_drawn_to_one_scale_and_within_the_picture() -> None:
    paired = PairedComparison(images=12, confidence=0.95, instances={}, overall=_GAINS, classes={})
    page = verdict_page("one", [], Evidence(_MODEL, _MODEL, paired), GateConfig())
    drawn = re.findall(r'<svg width="(\d+)".*?x1="([\d.]+)".*?x1="([\d.]+)" x2="([\d.]+)".*?cx="([\d.]+)"', page)
    assert len(drawn) == 3
    for gain, numbers in zip(_GAINS.values(), drawn, strict=True):
        width, zero, low, high, dot = map(float, numbers)
        assert zero == width / 2
        # The farthest of all limits, 0.3 below zero, leaves room for a dot and half a line.
        for x, value in ((low, gain.low), (high, gain.high), (dot, gain.gain)):
            assert x == pytest.approx(zero + (zero - 6) * value / 0.3, abs=0.06)


def test_remarks_are_shown_and_escaped() -> None:
    page = verdict_page("one", [], Evidence(_MODEL), GateConfig(), remarks=["by <ada>"])
    assert "<p>by &lt;ada&gt;</p>" in page


def test_limits_that_are_not_known_are_not_drawn() -> None:
    gains = {quantity: Gain(0.6, 0.5, 0.1, math.nan, math.nan) for quantity in _GAINS}
    paired = PairedComparison(images=1, confidence=0.95, instances={"cow": 7}, overall=gains, classes={"cow": gains})
    page = verdict_page("one image", [], Evidence(_MODEL, _MODEL, paired), GateConfig())
    assert "nan" not in page
    assert page.count("unknown") == 6
    assert "<svg" not in page


def test_a_split_without_objects_has_a_page_too() -> None:
    paired = PairedComparison(
        images=4, confidence=0.95, instances={}, overall={}, classes={}, unlabelled={"cow": (1, 0)}
    )
    assert "over 4 images" in verdict_page("empty", ["nothing"], Evidence(_MODEL, _MODEL, paired), GateConfig())


def test_a_first_promotion_and_one_without_figures_have_a_page_too() -> None:
    assert "production" not in verdict_page("first", [], Evidence(_MODEL), GateConfig())
    assert "no data" in verdict_page("none", ["no data"], None, GateConfig())
