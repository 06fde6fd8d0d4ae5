import math
from itertools import pairwise

import pytest
from benchmarks.reporting import Bar, Report, Table, number, percentile, poisson_arrivals
from hypothesis import given
from hypothesis import strategies as st

VALUES = st.lists(st.floats(0, 100), min_size=1, max_size=200)


@given(VALUES, st.floats(0.01, 1.0))
def test_enough_values_lie_at_or_below_a_percentile_and_no_lower_value_would_do(
    values: list[float], share: float
) -> None:
    found = percentile(values, share)
    assert found in values
    # The share times the number of values is a sum in floating point.
    assert sum(value <= found for value in values) >= share * len(values) - 1e-9
    assert sum(value < found for value in values) < share * len(values) + 1e-9


def test_no_values_have_no_percentile() -> None:
    assert math.isnan(percentile([], 0.5))


def test_poisson_arrivals_come_at_their_rate_and_independently() -> None:
    arrivals = poisson_arrivals(rate=50, seconds=400)
    assert arrivals == sorted(arrivals)
    assert arrivals[0] >= 0
    assert arrivals[-1] < 400
    # 20,000 are expected, with a standard deviation of 141.
    assert len(arrivals) == pytest.approx(20_000, abs=600)
    gaps = [after - before for before, after in pairwise(arrivals)]
    # The standard deviation of exponential gaps is their mean.
    mean = sum(gaps) / len(gaps)
    deviation = math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / len(gaps))
    assert deviation == pytest.approx(mean, rel=0.05)


def test_a_table_lines_up_as_text_and_as_markdown() -> None:
    table = Table(("what", "ms"), (("a long name", "1"), ("b", "1,000")))
    assert table.text().splitlines() == ["what            ms", "a long name      1", "b            1,000"]
    assert table.markdown().splitlines() == ["| what | ms |", "| --- | ---: |", "| a long name | 1 |", "| b | 1,000 |"]


def test_a_bar_is_met_up_to_its_limit_and_never_by_what_is_not_a_number() -> None:
    assert Bar("speed", 3.0, 3.0, "times", at_least=True).met
    assert not Bar("speed", 2.99, 3.0, "times", at_least=True).met
    assert Bar("failed", 0, 0).met
    assert not Bar("failed", 1, 0).met
    assert not Bar("delay", float("nan"), 2.0).met
    assert Bar("speed", 3.24, 3.0, "times", at_least=True).row() == ("speed", "3.24 times", "at least 3 times", "met")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (3, "3"), (0.01234, "0.0123"), (0.5, "0.500"), (2.345, "2.35"), (45.67, "45.7"), (1234.5, "1,234")],
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert number(value) == text


def test_a_number_that_is_none_is_a_dash() -> None:
    assert number(float("nan")) == number(float("inf")) == "-"


def test_a_report_holds_its_tables_and_verdicts_in_both_forms() -> None:
    report = Report("Census", "Four photos.", (Table(("way", "s"), (("ours", "1"),)),), (Bar("failed", 1, 0),))
    for markdown in (False, True):
        shown = report.show(markdown=markdown)
        for part in ("Census", "Four photos.", "ours", "Machine: ", "not met"):
            assert part in shown
    assert report.show(markdown=True).startswith("## Census\n")
