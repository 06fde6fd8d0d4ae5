from pathlib import Path

import pytest

from transect.serving.memory import decode_bytes, memory_limit

GIB = 1 << 30


def test_a_control_group_bounds_what_the_machine_has(tmp_path: Path) -> None:
    machine = memory_limit(())
    limit, none = tmp_path / "limit", tmp_path / "none"
    limit.write_text("1073741824\n")
    none.write_text("max\n")
    assert machine > GIB
    assert memory_limit((limit,)) == GIB
    assert memory_limit((none, tmp_path / "absent")) == machine


@pytest.mark.parametrize(
    ("setting", "limit", "expected"),
    [(0, GIB, GIB // 4), (0, 64 * GIB, 4 * GIB), (0, GIB // 4, GIB // 8), (300, GIB, 300 << 20)],
)
def test_the_decode_budget_is_a_quarter_of_the_memory_by_default(setting: int, limit: int, expected: int) -> None:
    assert decode_bytes(setting, limit) == expected
