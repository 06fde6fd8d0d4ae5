"""The files that start first exist, and the times of the tiers add up."""

from pathlib import Path

import pytest

from tiers import SECONDS, longest_first, tier_times

TESTS = Path(__file__).parents[1]


def test_the_longest_files_exist_and_are_in_order() -> None:
    assert [name for name in SECONDS if not (TESTS / name).exists()] == []
    assert list(SECONDS.values()) == sorted(SECONDS.values(), reverse=True)


def test_the_longest_files_start_first_and_the_others_keep_their_order(request: pytest.FixtureRequest) -> None:
    def item(file: str, name: str) -> pytest.Item:
        found = pytest.Function.from_parent(request.node.parent, name=name, callobj=request.node.obj)
        found.path = TESTS / file
        return found

    short, long = "unit/test_tiers.py", "integration/test_training_sweep.py"
    items = [item(short, "a"), item(long, "b"), item("unit/test_files.py", "c"), item(long, "d"), item(short, "e")]
    longest_first(items)
    assert [one.name for one in items] == ["b", "d", "a", "c", "e"]


def test_the_time_of_a_tier_is_that_of_its_tests_and_their_set_up() -> None:
    def report(node: str, when: str, duration: float) -> pytest.TestReport:
        return pytest.TestReport(node, ("", 0, ""), {}, "passed", None, when, duration=duration)  # type: ignore[arg-type]

    reports = [
        report("tests/unit/a/test_b.py::test_c", "setup", 1),
        report("tests/unit/a/test_b.py::test_c", "call", 2),
        report("tests/browser/test_d.py::test_e", "call", 4),
        report("::test_f", "call", 5),
    ]
    assert list(tier_times([*reports, "a warning"])) == [
        ": 1 test took 5 s, added over all processes",
        "browser: 1 test took 4 s, added over all processes",
        "unit: 1 test took 3 s, added over all processes",
    ]
