"""People's decisions in a real PostgreSQL: two writers at once, writers that are killed, triggers and grants."""

import itertools
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import psycopg2
import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from integration.servers import accounts_environment
from review_items import EVERY_FIELD, EVERY_SEARCH, REVIEW, add_review, decision, search, start_writer
from transect.errors import InputError
from transect.review.decisions.schema import ROLE, VERSION_TABLE, versions
from transect.review.decisions.store import Appended, DecisionStore, migrate, open_store
from transect.review.decisions.tables import Base

TABLES = ("review", "drawn_item", "decision", "photo_search", "added_box")
_NUMBERS = itertools.count()


def ask(url: str, *statements: str) -> list[Any]:
    """Run statements as one transaction; the rows of the last."""
    plain = url.replace("+psycopg2", "")
    with closing(psycopg2.connect(plain)) as connection, connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
        return cursor.fetchall() if cursor.description else []


def new_database(server: str) -> str:
    """An empty database of a server; its address."""
    name = f"reviews_{next(_NUMBERS)}"
    engine = sqlalchemy.create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    engine.dispose()
    return sqlalchemy.make_url(server).set(database=name).render_as_string(hide_password=False)


@pytest.fixture
def empty(postgres_uri: str) -> str:
    return new_database(postgres_uri)


@pytest.fixture(scope="module")
def shared(postgres_uri: str) -> str:
    url = new_database(postgres_uri)
    migrate(url)
    return url


@pytest.fixture
def store(shared: str) -> Iterator[DecisionStore]:
    with open_store(shared) as opened:
        add_review(opened)
        yield opened


@pytest.fixture
def review(store: DecisionStore) -> str:
    """A review of its own in the shared database."""
    name = f"review-of-{next(_NUMBERS)}"
    add_review(store, name)
    return name


def test_every_field_comes_back_as_it_was_given(store: DecisionStore, review: str) -> None:
    assert store.append(review, EVERY_FIELD, EVERY_SEARCH) == Appended(new=6, known=0)
    assert store.append(review, EVERY_FIELD[::-1], EVERY_SEARCH) == Appended(new=0, known=6)
    assert store.decisions(review) == EVERY_FIELD
    assert store.searches(review) == EVERY_SEARCH
    assert [str(item.decided_at) for item in store.decisions(review)] == [
        "2026-11-30 12:05:06.123457+00:00",
        "None",
        "2026-01-01 00:00:00+00:00",
    ]
    assert store.record_drawn(review, "box", ["k1", "k2"], "1") == 2
    assert store.record_drawn(review, "box", ["k2", "k3"], "2") == 1
    assert store.drawn(review, "box") == {"k1", "k2", "k3"}


def test_a_uuid_with_other_content_is_refused_with_all_that_came_with_it(store: DecisionStore, review: str) -> None:
    store.append(review, EVERY_FIELD, EVERY_SEARCH)
    with pytest.raises(InputError, match="Decision d1 is recorded with other content"):
        store.append(review, [decision("new"), decision("d1", verdict="reject")], ())
    with pytest.raises(InputError, match="PhotoSearch s1 is recorded with other content"):
        store.append(review, [decision("new")], [search("s1")])
    assert (store.decisions(review), store.searches(review)) == (EVERY_FIELD, EVERY_SEARCH)


def test_models_and_migrations_agree(shared: str) -> None:
    engine = sqlalchemy.create_engine(shared)
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": VERSION_TABLE, "compare_server_default": True}
        )
        assert compare_metadata(context, Base.metadata) == []
        assert context.get_current_revision() == versions().get_current_head()
    engine.dispose()


@pytest.mark.parametrize("table", TABLES)
def test_rows_are_added_and_never_changed(store: DecisionStore, review: str, shared: str, table: str) -> None:
    """Even by the owner of the tables."""
    store.append(review, EVERY_FIELD, EVERY_SEARCH)
    store.record_drawn(review, "box", ["k1"], "1")
    before = ask(shared, f"SELECT * FROM {table} ORDER BY 1, 2, 3")
    column = "id" if table == "review" else "review"
    for statement in (
        f"UPDATE {table} SET {column} = {column}",
        f"UPDATE {table} SET {column} = {column} WHERE false",
        f"DELETE FROM {table}",
        f"TRUNCATE {table} CASCADE",
        f"INSERT INTO {table} SELECT * FROM {table} ON CONFLICT ON CONSTRAINT {table}_pkey "
        f"DO UPDATE SET {column} = excluded.{column}",
    ):
        with pytest.raises(psycopg2.errors.RaiseException, match="are added and never changed"):
            ask(shared, statement)
    assert before
    assert ask(shared, f"SELECT * FROM {table} ORDER BY 1, 2, 3") == before


_WRITER = """
import random, sys
from review_items import decision, search
from transect.review.decisions.store import open_store
url, review, seed = sys.argv[1:]
uuids = [f"{number:04}" for number in range(2000)]
random.Random(int(seed)).shuffle(uuids)
new = 0
with open_store(url) as store:
    print("open", flush=True)
    for start in range(0, 2000, 100):
        chunk = uuids[start : start + 100]
        done = store.append(review, [decision(u) for u in chunk], [search(u, (1, 2, 3, 4)) for u in chunk])
        new += done.new
        print(start, done.new, flush=True)
print("new", new, flush=True)
"""


def writer(url: str, review: str, seed: int) -> "subprocess.Popen[str]":
    return start_writer(_WRITER, url, review, str(seed))


def test_two_writers_at_once_neither_double_nor_fail(store: DecisionStore, review: str, shared: str) -> None:
    writers = [writer(shared, review, seed) for seed in range(2)]
    said = [process.communicate(timeout=120)[0] for process in writers]
    assert [process.returncode for process in writers] == [0, 0]
    assert sum(int(text.split()[-1]) for text in said) == 4000
    assert store.decisions(review) == tuple(decision(f"{number:04}") for number in range(2000))
    assert store.searches(review) == tuple(search(f"{number:04}", (1, 2, 3, 4)) for number in range(2000))


def test_writers_that_are_killed_leave_whole_appends_beside_one_that_is_not(
    store: DecisionStore, review: str, shared: str
) -> None:
    """kill -9 at twenty moments of appending, while another process writes the same."""
    stop = threading.Event()

    def go_on() -> int:
        times = 0
        while not stop.is_set():
            process = writer(shared, review, 99)
            process.communicate(timeout=120)
            assert process.returncode == 0
            times += 1
        return times

    with ThreadPoolExecutor(1) as pool:
        beside = pool.submit(go_on)
        for moment in range(20):
            killed = writer(shared, review, moment)
            assert killed.stdout is not None
            killed.stdout.readline()
            time.sleep(0.005 * moment)
            killed.send_signal(signal.SIGKILL)
            said = [line for line in killed.stdout.read().splitlines() if line[:1].isdigit()]
            killed.stdout.close()
            assert killed.wait() in (-signal.SIGKILL, 0)
            # What it was told to be taken is there: its uuids, in its own order.
            uuids = [f"{number:04}" for number in range(2000)]
            random.Random(moment).shuffle(uuids)
            decisions, searches = store.decisions(review), store.searches(review)
            there = {item.uuid for item in decisions}
            assert set(uuids[: 100 * len(said)]) <= there
            assert all(len(item.added) == 1 for item in searches)
            assert len(decisions) == len(there)
        stop.set()
        assert beside.result() >= 1
    assert store.decisions(review) == tuple(decision(f"{number:04}") for number in range(2000))


def test_a_killed_writer_alone_leaves_whole_appends(store: DecisionStore, shared: str) -> None:
    for moment in range(3):
        name = f"killed-{moment}"
        add_review(store, name)
        killed = writer(shared, name, moment)
        assert killed.stdout is not None
        killed.stdout.readline()
        time.sleep(0.01 * moment)
        killed.kill()
        killed.communicate()
        decisions, searches = store.decisions(name), store.searches(name)
        assert len(decisions) % 100 == 0
        assert [item.uuid for item in decisions] == [item.uuid for item in searches]


def test_two_who_migrate_at_once_wait_for_one_another(empty: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(migrate, [empty] * 4))
    assert sorted(done) == [False, False, False, True]


def test_tables_that_are_missing_or_of_another_version_are_named(empty: str) -> None:
    with pytest.raises(InputError, match=r"no tables for reviews, or older ones; run `transect review migrate`"):
        open_store(empty).__enter__()
    assert ask(empty, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(0,)]
    migrate(empty)
    ask(empty, f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
    with pytest.raises(InputError, match=r"newer Transect \(version 9999\)"):
        open_store(empty).__enter__()
    with pytest.raises(InputError, match=r"newer Transect \(version 9999\)"):
        migrate(empty)


def initialise(server: str, password: str) -> None:
    """What the stack's initialiser does for reviews."""
    subprocess.run(
        [sys.executable, "-c", "import sys, initialise as i; i.make_review_database(sys.argv[1])", password],
        env={**os.environ, **accounts_environment(server)},
        check=True,
        timeout=300,
    )


def test_the_role_of_the_stack_reads_and_adds_rows_and_no_more(
    postgres_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As compose.yaml does it: the initialiser, the migration as the owner, the census as the role."""
    for _ in range(2):  # again at every start
        initialise(postgres_uri, "throw-away-password")
    owner = sqlalchemy.make_url(postgres_uri).set(database="transect").render_as_string(hide_password=False)
    environment = {name: value for name, value in accounts_environment(owner).items() if name.startswith("PG")}
    host = environment["PGHOST"]
    # User and password come from libpq's variables, as in the containers.
    plain = f"postgresql:///transect?host={host}"
    command = [sys.executable, "-m", "transect", "review", "migrate"]
    for said in ("brought up to date", "up to date already"):
        done = subprocess.run(
            command,
            env={**os.environ, **environment, "TRANSECT_REVIEW_DATABASE": plain},
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
        assert done.stdout == f"The tables of reviews are {said}.\n"
        assert done.stderr == ""
    monkeypatch.setenv("PGUSER", ROLE)
    monkeypatch.setenv("PGPASSWORD", "throw-away-password")
    with open_store(plain) as store:
        add_review(store)
        assert store.append(REVIEW, EVERY_FIELD, EVERY_SEARCH) == Appended(new=6, known=0)
        assert store.record_drawn(REVIEW, "photo", ["k1"], "1") == 1
        assert (store.decisions(REVIEW), store.searches(REVIEW)) == (EVERY_FIELD, EVERY_SEARCH)
    for statement in (
        *(f"UPDATE {table} SET {'id' if table == 'review' else 'review'} = 'x'" for table in TABLES),
        *(f"DELETE FROM {table}" for table in TABLES),
        *(f"TRUNCATE {table} CASCADE" for table in TABLES),
        f"INSERT INTO {VERSION_TABLE} VALUES ('9999')",
        f"DELETE FROM {VERSION_TABLE}",
        "DROP TABLE decision",
        "ALTER TABLE decision DISABLE TRIGGER ALL",
        "DROP TRIGGER decision_append_only ON decision",
        "CREATE OR REPLACE FUNCTION transect_append_only() RETURNS trigger LANGUAGE sql AS 'SELECT NULL'",
        "CREATE TABLE mine (x int)",
        "COPY decision TO PROGRAM 'cat'",
        "SET session_replication_role = replica",
    ):
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            ask(plain, statement)
    assert ask(plain, "SELECT rolsuper, rolcreatedb, rolcreaterole FROM pg_roles WHERE rolname = current_user") == [
        (False, False, False)
    ]
    # And it cannot make the tables, where there are none.
    ask(owner, f"DROP TABLE {', '.join((*TABLES, VERSION_TABLE))} CASCADE", "DROP FUNCTION transect_append_only")
    with pytest.raises(InputError, match=r"nothing was taken \(permission denied .*as the owner of the tables"):
        migrate(plain)


def test_more_decisions_than_are_fetched_at_once_come_back(store: DecisionStore, review: str) -> None:
    items = [decision(f"{number:06}") for number in range(25_000)]
    assert store.append(review, items[::-1], ()).new == 25_000
    assert store.decisions(review) == tuple(items)
