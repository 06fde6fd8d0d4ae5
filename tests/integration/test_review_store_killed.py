"""People's decisions in an SQLite file whose writers are killed, and that several processes write at once."""

import random
import sqlite3
import time
from pathlib import Path

import pytest

from review_items import REVIEW, decision, search, start_writer
from transect.review.decisions.store import Appended, open_store

BATCH, BATCHES = 50, 20
UUIDS = tuple(f"{number:04}" for number in range(BATCH * BATCHES))
ALL = tuple(decision(uuid) for uuid in UUIDS)
ALL_SEARCHES = tuple(search(uuid, (1, 2, 3, 4)) for uuid in UUIDS)
# It says the number of a batch when the batch was taken, after which the batch has to be there.
_WRITER = """
import random, sys
from review_items import REVIEW, add_review, decision, search
from transect.review.decisions.store import open_store
address, seed, size, batches = sys.argv[1], *map(int, sys.argv[2:])
uuids = [f"{number:04}" for number in range(size * batches)]
random.Random(seed).shuffle(uuids)
print("begin", flush=True)
with open_store(address) as store:
    add_review(store)
    for start in range(0, len(uuids), size):
        mine = uuids[start : start + size]
        done = store.append(REVIEW, [decision(u) for u in mine], [search(u, (1, 2, 3, 4)) for u in mine])
        print(start, done.new, flush=True)
"""


def arguments(file: Path, seed: int) -> tuple[str, ...]:
    return (_WRITER, f"sqlite:///{file}", str(seed), str(BATCH), str(BATCHES))


def shuffled(seed: int) -> list[str]:
    uuids = list(UUIDS)
    random.Random(seed).shuffle(uuids)
    return uuids


@pytest.mark.parametrize("moment", range(20))
def test_a_writer_that_is_killed_loses_nothing_and_doubles_nothing(tmp_path: Path, moment: int) -> None:
    """kill -9 from the first migration on; then the same import again, as a person would start it."""
    file = tmp_path / "decisions.sqlite"
    with start_writer(*arguments(file, moment)) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        # Five moments of the first migration, then fifteen of as many appends.
        waited = max(moment - 4, 0)
        for _ in range(waited):
            writer.stdout.readline()
        time.sleep(0.004 * (moment % 5) if waited else 0.03 * moment)
        writer.kill()
        taken = waited + sum(line.endswith("\n") for line in writer.stdout)
    with open_store(f"sqlite:///{file}") as store:
        there = store.decisions(REVIEW)
        # Whole batches in the writer's order; the last one may have been taken when it could no longer say so.
        assert len(there) in (taken * BATCH, (taken + 1) * BATCH)
        assert [item.uuid for item in there] == sorted(shuffled(moment)[: len(there)])
        assert store.searches(REVIEW) == tuple(item for item in ALL_SEARCHES if decision(item.uuid) in there)
    with start_writer(*arguments(file, moment)) as again:
        said = again.communicate()[0]
    assert sum(int(line.split()[1]) for line in said.splitlines()[1:]) == len(ALL) * 2 - len(there) * 2
    with open_store(f"sqlite:///{file}") as store:
        assert (store.decisions(REVIEW), store.searches(REVIEW)) == (ALL, ALL_SEARCHES)
        assert store.append(REVIEW, ALL, ALL_SEARCHES) == Appended(new=0, known=len(ALL) * 2)
    with sqlite3.connect(file) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_processes_that_write_at_once_all_succeed_from_the_first_migration_on(tmp_path: Path) -> None:
    file = tmp_path / "decisions.sqlite"
    writers = [start_writer(*arguments(file, seed)) for seed in range(3)]
    said = [writer.communicate()[0] for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    assert sum(int(line.split()[1]) for text in said for line in text.splitlines()[1:]) == len(ALL) * 2
    with open_store(f"sqlite:///{file}") as store:
        assert (store.decisions(REVIEW), store.searches(REVIEW)) == (ALL, ALL_SEARCHES)
