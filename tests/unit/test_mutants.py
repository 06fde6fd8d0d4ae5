"""What `make mutants` changes and what it leaves out are still there; mutmut has an environment of its own."""

import mutants
import pytest


@pytest.mark.parametrize("room", mutants.ROOMS)
def test_a_room_names_modules_and_tests_that_exist(room: str) -> None:
    modules, tests = mutants.ROOMS[room]
    for pattern in modules:
        assert list((mutants.ROOT / "services" / "transect").glob(pattern)), pattern
    for test in tests:
        assert (mutants.ROOT / "tests" / test).is_file(), test


def test_a_mutant_that_counts_as_equivalent_is_of_a_line_that_exists() -> None:
    known = mutants.known_equivalent()
    assert known
    for module, change in known:
        source = (mutants.ROOT / "services" / "transect" / module).read_text(encoding="utf-8")
        lines = {line.strip() for line in source.splitlines()}
        function, *changed = change.splitlines()
        assert f"def {function.rpartition('ǁ')[2]}(" in source, change
        assert {line[2:] for line in changed if line[0] == "-"} <= lines, change
