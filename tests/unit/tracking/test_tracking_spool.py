import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transect.errors import InputError
from transect.tracking.spool import Spool

_NAMES = st.text(st.characters(codec="utf-8"), max_size=20)
_VALUES = st.dictionaries(_NAMES, st.floats(), max_size=5)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool.create(tmp_path / "run")


def _tell(spool: Spool, count: int, first: int = 0) -> None:
    for step in range(first, first + count):
        spool.append("metrics", f"metrics of step {step}", values={"m": float(step)}, step=step, time=step)


@given(st.lists(_VALUES, max_size=8))
def test_entries_are_read_back(tmp_path_factory: pytest.TempPathFactory, logged: list[dict[str, float]]) -> None:
    spool = Spool.create(tmp_path_factory.mktemp("any") / "run")
    for values in logged:
        spool.append("metrics", "metrics", values=values)
    found = [entry.data["values"] for entry in Spool(spool.run_folder).entries()]
    assert [repr(values) for values in found] == [repr(values) for values in logged]


@given(st.integers(0, 400))
def test_a_torn_end_costs_only_what_was_not_promised(tmp_path_factory: pytest.TempPathFactory, kept: int) -> None:
    """A process that is killed while it writes leaves any part of its last line."""
    spool = Spool.create(tmp_path_factory.mktemp("torn") / "run")
    _tell(spool, 4)
    journal = spool.folder / "journal.jsonl"
    whole = journal.read_bytes()
    journal.write_bytes(whole[:kept])
    left = whole[:kept].count(b"\n")
    again = Spool(spool.run_folder)
    assert [entry.data["step"] for entry in again.entries()] == list(range(left))
    _tell(again, 2, first=10)
    assert [entry.data["step"] for entry in again.entries()] == [*range(left), 10, 11]


def test_delivery_goes_on_where_it_was(spool: Spool) -> None:
    _tell(spool, 3)
    entry = spool.next()
    assert entry is not None
    spool.mark_delivered(entry, run_id="abc")
    again = Spool(spool.run_folder)
    assert again.state.run_id == "abc"
    assert [entry.what for entry in again.pending()] == ["metrics of step 1", "metrics of step 2"]
    second = again.next()
    assert second is not None
    again.mark_rejected(second, "no")
    assert Spool(spool.run_folder).state.rejected == ("metrics of step 1 (no)",)
    assert [entry.what for entry in again.pending()] == ["metrics of step 2"]


def test_a_damaged_line_hides_no_other(spool: Spool) -> None:
    _tell(spool, 3)
    journal = spool.folder / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(lines[0] + b"\x00\x00" + lines[1] + lines[2])
    assert [entry.kind for entry in spool.entries()] == ["metrics", "damaged", "metrics"]


def test_a_kept_file_is_as_it_was_and_goes_when_delivered(spool: Spool, tmp_path: Path) -> None:
    source = tmp_path / "results.csv"
    source.write_text("1")
    kept = spool.store_file(source)
    spool.append("artifact", "artifact results.csv", file=kept, folder=None)
    source.write_text("1\n2")
    assert spool.stored_path(kept).read_text() == "1"
    assert spool.stored_path(kept).name == "results.csv"
    entry = spool.next()
    assert entry is not None
    spool.mark_delivered(entry)
    assert not spool.stored_path(kept).exists()


def test_nan_survives(spool: Spool) -> None:
    spool.append("metrics", "metrics", values={"a": math.nan, "b": -math.inf})
    entry = spool.next()
    assert entry is not None
    assert math.isnan(entry.data["values"]["a"])
    assert entry.data["values"]["b"] == -math.inf


def test_one_delivers_at_a_time(spool: Spool) -> None:
    with spool.lock() as mine, Spool(spool.run_folder).lock() as other:
        assert (mine, other) == (True, False)
    with spool.lock() as mine:
        assert mine


def test_a_state_that_cannot_be_read_is_one_sentence(spool: Spool) -> None:
    (spool.folder / "state.json").write_text(json.dumps({"offset": 1}))
    with pytest.raises(InputError, match=r"state\.json cannot be read"):
        Spool(spool.run_folder)


def test_a_disk_that_takes_nothing_is_one_sentence(spool: Spool) -> None:
    (spool.folder / "journal.jsonl").unlink()
    with pytest.raises(InputError, match=r"journal\.jsonl cannot take the tags"):
        spool.append("tags", "tags", values={})
