import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transect.pages.numbers import count_text, css_string, figures, limits_text, number_text, percent


@pytest.mark.parametrize(
    ("value", "text"), [(None, "–"), (0, "0"), (999.6, "1\u202f000"), (1234567, "1\u202f234\u202f567")]
)
def test_counts_are_grouped(value: float | None, text: str) -> None:
    assert count_text(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(None, "–"), (0, "0"), (0.01234, "0.0123"), (1.234, "1.23"), (98765.4, "98\u202f765")]
)
def test_figures_are_never_exponents(value: float | None, text: str) -> None:
    assert figures(value) == text


def test_numbers_limits_and_shares() -> None:
    assert [number_text(value) for value in (None, 68.0, 65.53, 1234.5)] == ["–", "68", "65.5", "1\u202f234"]
    assert [limits_text(one) for one in (None, (12.4, 1200.0))] == ["–", "12 – 1\u202f200"]
    assert [percent(share) for share in (None, 0.2536)] == ["–", "25.4\u202f%"]


@given(st.text())
def test_any_text_stands_safely_in_the_style(text: str) -> None:
    escaped = css_string(text)
    assert re.fullmatch(r"(\\[0-9a-f]+ |[0-9A-Za-z])*", escaped)
    back = re.sub(r"\\([0-9a-f]+) ", lambda found: chr(int(found[1], 16)), escaped)
    assert back == text
