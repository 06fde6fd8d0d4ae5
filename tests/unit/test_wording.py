import pytest

from transect.wording import count_of, one_line


@pytest.mark.parametrize(("number", "said"), [(0, "0 photos"), (1, "1 photo"), (2, "2 photos")])
def test_one_thing_is_no_plural(number: int, said: str) -> None:
    assert count_of(number, "photo") == said


def test_a_plural_may_have_a_form_of_its_own() -> None:
    assert [count_of(number, "entry", "entries") for number in (1, 3)] == ["1 entry", "3 entries"]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("no such\n  table."), "no such table"),
        ("", ""),
        ("x" * 300 + ".", "x" * 300),
        ("x" * 301, "x" * 299 + "…"),
    ],
)
def test_a_foreign_error_takes_one_line(error: object, line: str) -> None:
    assert one_line(error) == line
