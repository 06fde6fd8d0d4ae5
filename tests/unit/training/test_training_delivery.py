"""Which entries of a spool may be sent with one another."""

from typing import Any

import pytest

from transect.training.delivery import going_together
from transect.training.spool import Entry

_SIZES = {"files/a/x.png": 10, "files/b/x.png": 10, "files/c/y.png": 10, "files/d/large.pt": 9 << 20}


def _metrics(step: int, count: int = 1) -> Entry:
    return Entry("metrics", f"m{step}", {"values": {f"m{i}": 0.0 for i in range(count)}, "step": step, "time": 0}, step)


def _file(kept: str, folder: str | None = None) -> Entry:
    return Entry("artifact", kept, {"file": kept, "folder": folder}, 0)


def _other(kind: str) -> Entry:
    return Entry(kind, kind, {"values": {}}, 0)


_MANY = [_file(f"files/{number}/{number}.png") for number in range(9)]


@pytest.mark.parametrize(
    ("entries", "together"),
    [
        ([], 0),
        ([_metrics(1), _metrics(2), _metrics(3)], 3),
        ([_metrics(1, 600), _metrics(2, 400), _metrics(3)], 2),
        ([_metrics(1, 1000), _metrics(2)], 1),
        ([_metrics(1), _other("tags"), _metrics(2)], 1),
        ([_other("tags"), _other("tags")], 1),
        ([_other("damaged"), _metrics(1)], 1),
        ([_file("files/a/x.png"), _file("files/c/y.png")], 2),
        ([_file("files/a/x.png"), _file("files/b/x.png")], 1),
        ([_file("files/a/x.png", "one"), _file("files/b/x.png", "two")], 2),
        ([_file("files/a/x.png"), _file("files/d/large.pt"), _file("files/c/y.png")], 1),
        ([_file("files/d/large.pt"), _file("files/c/y.png")], 1),
        ([_file("files/a/x.png"), _file("files/gone/z.png"), _file("files/c/y.png")], 1),
        ([_file("files/gone/z.png"), _file("files/c/y.png")], 1),
        (_MANY, 8),
    ],
)
def test_only_what_has_no_order_goes_together(entries: list[Entry], together: int) -> None:
    sizes: dict[str, Any] = {**_SIZES, **{entry.data["file"]: 10 for entry in _MANY}}
    assert going_together(entries, lambda entry: sizes.get(entry.data["file"])) == entries[:together]
