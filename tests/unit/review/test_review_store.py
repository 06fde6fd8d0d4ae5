"""People's decisions in an SQLite file: nothing is doubled or changed; tests/integration kills, and asks PostgreSQL."""

import os
import random
import sqlite3
import tempfile
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine, event
from typer.testing import CliRunner

from review_items import EVERY_FIELD, EVERY_SEARCH, REVIEW, add_review, decision, search, start_writer
from transect.cli import app
from transect.errors import InputError, SettingsError, UnreachableError
from transect.review.decisions.connection import address_of, database_url
from transect.review.decisions.decision import Decision
from transect.review.decisions.schema import VERSION_TABLE, versions
from transect.review.decisions.store import Appended, DecisionStore, migrate, open_store
from transect.review.decisions.tables import Base
from transect.settings import load_settings

TABLES = ("review", "drawn_item", "decision", "photo_search", "added_box")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "decisions.sqlite"


@pytest.fixture
def store(file: Path) -> Iterator[DecisionStore]:
    with open_store(f"sqlite:///{file}") as opened:
        add_review(opened)
        yield opened


def test_every_field_comes_back_as_it_was_given(store: DecisionStore) -> None:
    assert store.append(REVIEW, EVERY_FIELD, EVERY_SEARCH) == Appended(new=6, known=0)
    assert store.decisions(REVIEW) == EVERY_FIELD
    assert store.searches(REVIEW) == EVERY_SEARCH
    at = store.decisions(REVIEW)[0].decided_at
    assert at == EVERY_FIELD[0].decided_at
    assert at is not None
    assert at.tzinfo is UTC


def test_the_order_of_arrival_never_shows(tmp_path: Path) -> None:
    items = [decision(f"{number:x}") for number in range(40)]
    seen = set()
    for seed in range(3):
        random.Random(seed).shuffle(items)
        with open_store(f"sqlite:///{tmp_path / f'{seed}.sqlite'}") as store:
            add_review(store)
            for start in range(0, 40, 7):
                store.append(REVIEW, items[start : start + 7], ())
            seen.add(repr(store.decisions(REVIEW)))
    assert len(seen) == 1


def test_what_is_delivered_again_is_known(store: DecisionStore) -> None:
    store.append(REVIEW, EVERY_FIELD[:2], EVERY_SEARCH[:1])
    assert store.append(REVIEW, EVERY_FIELD, EVERY_SEARCH) == Appended(new=3, known=3)
    assert store.append(REVIEW, (*EVERY_FIELD, *EVERY_FIELD), EVERY_SEARCH) == Appended(new=0, known=9)
    assert store.append(REVIEW, (decision("x"), decision("x")), ()) == Appended(new=1, known=1)
    assert len(store.decisions(REVIEW)) == 4


@pytest.mark.parametrize(
    ("decisions", "searches", "named"),
    [
        ((decision("new"), decision("d1", verdict="reject")), (), "Decision d1"),
        ((decision("new"), decision("d1", note="more")), (), "Decision d1"),
        ((decision("new"),), (search("s1", (1.0, 2.0, 3.0, 4.0)),), "PhotoSearch s1"),
        ((decision("new"),), (search("s1"),), "PhotoSearch s1"),
        ((decision("new"), decision("new", verdict="unsure")), (), "Decision new"),
    ],
)
def test_a_uuid_with_other_content_is_refused_with_all_that_came_with_it(
    store: DecisionStore, decisions: tuple[Decision, ...], searches: tuple[object, ...], named: str
) -> None:
    store.append(REVIEW, EVERY_FIELD, EVERY_SEARCH)
    with pytest.raises(InputError, match=f"{named} is recorded with other content.*supersedes"):
        store.append(REVIEW, decisions, searches)  # type: ignore[arg-type]
    assert (store.decisions(REVIEW), store.searches(REVIEW)) == (EVERY_FIELD, EVERY_SEARCH)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (decision(""), "has 0 characters"),
        (decision("u" * 201), "has 201 characters"),
        (decision("d", note="a\0b"), "d: a text has characters that cannot be stored"),
        (decision("d", reviewer="\ud83e"), "d: a text has characters that cannot be stored"),
        (decision("d", verdict="maybe"), "d: the verdict 'maybe' is none of keep"),
        (decision("d", drawn="luck"), "d: drawn by 'luck' is none of sample"),
        (decision("d", decided_at=datetime(2026, 1, 1)), "d: the time 2026-01-01 00:00:00 has no zone"),  # noqa: DTZ001
        (decision("d", milliseconds=-1), "d: -1 ms is no time"),
        (decision("d", milliseconds=2**63), "ms is no time"),
        (search("s", (1.0, 2.0, float("nan"), 4.0)), "s: the box .* is not finite"),
        (search("s", (1.0, 2.0, 3.0, float("inf"))), "s: the box .* is not finite"),
    ],
)
def test_what_no_table_takes_is_refused(store: DecisionStore, wrong: object, said: str) -> None:
    decisions = [decision("good"), *([wrong] if isinstance(wrong, Decision) else [])]
    searches = [] if isinstance(wrong, Decision) else [wrong]
    with pytest.raises(InputError, match=said):
        store.append(REVIEW, decisions, searches)  # type: ignore[arg-type]
    assert store.decisions(REVIEW) == ()


def test_reviews_share_a_database_and_no_decisions(store: DecisionStore) -> None:
    add_review(store)
    add_review(store, "review-2")
    store.append(REVIEW, EVERY_FIELD, EVERY_SEARCH)
    store.append("review-2", [decision("d1", verdict="unsure")], ())
    assert store.decisions(REVIEW) == EVERY_FIELD
    assert store.decisions("review-2") == (decision("d1", verdict="unsure"),)
    assert store.searches("review-2") == ()
    with pytest.raises(InputError, match="another review with the id review-2"):
        add_review(store, "review-2", census_run="ba9876543210")
    with pytest.raises(InputError, match="has no review review-3; start the review first"):
        store.append("review-3", EVERY_FIELD, ())


def test_drawn_items_keep_their_first_batch(store: DecisionStore, file: Path) -> None:
    assert store.record_drawn(REVIEW, "box", ["k1", "k2", "k1"], "1") == 2
    assert store.record_drawn(REVIEW, "box", ["k2", "k3"], "2") == 1
    assert store.record_drawn(REVIEW, "photo", ["k1"], "2") == 1
    assert store.drawn(REVIEW, "box") == {"k1", "k2", "k3"}
    assert store.drawn(REVIEW, "photo") == {"k1"}
    assert store.record_drawn(REVIEW, "box", [], "3") == 0
    found = sqlite3.connect(file).execute("SELECT key, batch FROM drawn_item WHERE kind = 'box' ORDER BY key")
    assert found.fetchall() == [("k1", "1"), ("k2", "1"), ("k3", "2")]
    with pytest.raises(InputError, match="kind 'crop' cannot be drawn"):
        store.record_drawn(REVIEW, "crop", ["k"], "1")  # type: ignore[arg-type]


@pytest.mark.parametrize("table", TABLES)
def test_rows_are_added_and_never_changed(store: DecisionStore, file: Path, table: str) -> None:
    store.append(REVIEW, EVERY_FIELD, EVERY_SEARCH)
    store.record_drawn(REVIEW, "box", ["k1"], "1")
    connection = sqlite3.connect(file)
    before = connection.execute(f"SELECT * FROM {table}").fetchall()
    column = "id" if table == "review" else "review"
    for statement in (
        f"UPDATE {table} SET {column} = {column}",
        f"DELETE FROM {table}",
        f"INSERT OR REPLACE INTO {table} SELECT * FROM {table}",
        f"REPLACE INTO {table} SELECT * FROM {table} LIMIT 1",
    ):
        with pytest.raises(sqlite3.IntegrityError, match=f"rows of {table} are added and never changed"):
            connection.execute(statement)
    assert before
    assert connection.execute(f"SELECT * FROM {table}").fetchall() == before
    # Without a hidden key of its own, by which a row could be replaced.
    with pytest.raises(sqlite3.OperationalError, match="no such column"):
        connection.execute(f"SELECT rowid FROM {table}")


def test_models_and_migrations_agree(store: DecisionStore, file: Path) -> None:
    with create_engine(f"sqlite:///{file}").connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": VERSION_TABLE, "compare_server_default": True}
        )
        assert compare_metadata(context, Base.metadata) == []
        assert context.get_current_revision() == versions().get_current_head()
    assert set(TABLES) == set(Base.metadata.tables)


def test_the_file_is_private_and_has_a_journal_that_works_on_a_share(store: DecisionStore, file: Path) -> None:
    store.append(REVIEW, EVERY_FIELD, ())
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    assert sqlite3.connect(file).execute("PRAGMA journal_mode").fetchone() == ("delete",)
    with store._engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1


def test_the_path_is_taken_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "50% of? #1 & é"
    folder.mkdir()
    url = database_url(folder, load_settings({}, env_file=None))
    with open_store(url) as store:
        add_review(store)
    assert (folder / "decisions.sqlite").is_file()


def test_two_writers_at_once_neither_double_nor_fail(file: Path) -> None:
    items = [decision(f"{number:04}") for number in range(400)]
    counted: list[Appended] = []

    def write(seed: int) -> None:
        mine = items.copy()
        random.Random(seed).shuffle(mine)
        with open_store(f"sqlite:///{file}") as store:
            add_review(store)
            counted.extend(store.append(REVIEW, mine[start : start + 50], ()) for start in range(0, 400, 50))

    threads = [threading.Thread(target=write, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(done.new for done in counted) == 400
    assert sum(done.known for done in counted) == 1200
    with open_store(f"sqlite:///{file}") as store:
        assert store.decisions(REVIEW) == tuple(items)


def test_a_full_disk_takes_nothing(store: DecisionStore) -> None:
    store.append(REVIEW, EVERY_FIELD, ())
    with store._engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
    store._engine.dispose()

    @event.listens_for(store._engine, "connect")
    def no_page_more(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute(f"PRAGMA max_page_count = {pages}")

    with pytest.raises(InputError, match="cannot be written, and nothing was taken: the disk is full; free some space"):
        store.append(REVIEW, [decision(f"more-{number}") for number in range(1000)], ())
    assert store.decisions(REVIEW) == EVERY_FIELD


def test_a_file_that_may_not_grow_takes_nothing(store: DecisionStore, file: Path) -> None:
    program = (
        "import resource, sys\n"
        "from review_items import REVIEW, decision\n"
        "from transect.errors import InputError\n"
        "from transect.review.decisions.store import open_store\n"
        "with open_store(sys.argv[1]) as store:\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))\n"
        "    try:\n"
        "        store.append(REVIEW, [decision(str(number)) for number in range(1000)], ())\n"
        "    except InputError as error:\n"
        "        print(error)\n"
    )
    with start_writer(program, f"sqlite:///{file}") as writer:
        said = writer.communicate()[0]
    assert "nothing was taken: the disk does not" in said
    assert store.append(REVIEW, EVERY_FIELD, ()) == Appended(new=3, known=0)


def test_another_program_that_holds_the_file_is_named(file: Path, store: DecisionStore) -> None:
    with open_store(f"sqlite:///{file}", wait_s=0.1) as impatient:
        holder = sqlite3.connect(file, isolation_level=None)
        holder.execute("BEGIN EXCLUSIVE")
        with pytest.raises(InputError, match="written, and nothing was taken: another program holds it; try again"):
            impatient.append(REVIEW, EVERY_FIELD, ())
        with pytest.raises(InputError, match="cannot be read: another program holds it"):
            impatient.decisions(REVIEW)
        holder.execute("ROLLBACK")
        assert impatient.append(REVIEW, EVERY_FIELD, ()).new == 3


def test_a_damaged_file_is_one_sentence(file: Path, store: DecisionStore) -> None:
    store.append(REVIEW, [decision(f"{number:04}") for number in range(500)], ())
    whole = file.read_bytes()
    file.write_bytes(b"Decisions of\n" * 500)
    with pytest.raises(InputError, match=r"decisions\.sqlite cannot be read: it is damaged or no SQLite file"):
        store.decisions(REVIEW)
    with pytest.raises(InputError, match="it is damaged or no SQLite file"), open_store(f"sqlite:///{file}"):
        pass
    file.write_bytes(whole[:8192] + b"\xff" * (len(whole) - 8192))
    with pytest.raises(InputError, match="damaged"):
        store.decisions(REVIEW)


@pytest.mark.parametrize("closed", ["file", "folder"])
def test_a_review_that_may_only_be_read_is_read(closed: str) -> None:
    # Not below pytest's own folder: another user may not enter there.
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        url = f"sqlite:///{folder / 'decisions.sqlite'}"
        with open_store(url) as store:
            add_review(store)
            store.append(REVIEW, EVERY_FIELD, ())
        (folder / "decisions.sqlite").chmod(0o444 if closed == "file" else 0o666)
        folder.chmod(0o777 if closed == "file" else 0o555)
        with _as_nobody(), open_store(url) as store:
            assert store.decisions(REVIEW) == EVERY_FIELD
            with pytest.raises(
                InputError, match=r"nothing was taken: it (is read-only|cannot be opened); make the file"
            ):
                store.append(REVIEW, [decision("new")], ())
            assert store.decisions(REVIEW) == EVERY_FIELD
        folder.chmod(0o700)


def test_a_folder_that_takes_no_file_is_named() -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        folder.chmod(0o555)
        with (
            _as_nobody(),
            pytest.raises(InputError, match="cannot be kept: Permission denied; name a folder"),
            open_store(f"sqlite:///{folder / 'decisions.sqlite'}"),
        ):
            pass
        folder.chmod(0o700)
        with (
            pytest.raises(InputError, match="cannot be kept: No such file or directory"),
            open_store(f"sqlite:///{folder / 'none' / 'decisions.sqlite'}"),
        ):
            pass


class _as_nobody:  # noqa: N801 - used as a function
    """As a user whom modes of files hold; root is held by none."""

    def __enter__(self) -> None:
        self.root = os.geteuid() == 0
        if self.root:
            os.seteuid(65534)

    def __exit__(self, *_: object) -> None:
        if self.root:
            os.seteuid(0)


def test_tables_of_a_newer_transect_and_of_others_are_left_alone(file: Path, tmp_path: Path) -> None:
    with open_store(f"sqlite:///{file}"):
        pass
    with sqlite3.connect(file) as connection:
        connection.execute(f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
    with pytest.raises(InputError, match="newer Transect \\(version 9999\\)"), open_store(f"sqlite:///{file}"):
        pass
    other = tmp_path / "other.sqlite"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE photos (name TEXT)")
    with pytest.raises(InputError, match="a database of another program"), open_store(f"sqlite:///{other}"):
        pass
    assert sqlite3.connect(other).execute("SELECT name FROM sqlite_master").fetchall() == [("photos",)]


def test_opening_again_migrates_nothing(file: Path) -> None:
    assert migrate(f"sqlite:///{file}")
    before = file.read_bytes()
    assert not migrate(f"sqlite:///{file}")
    assert file.read_bytes() == before


def test_more_decisions_than_are_fetched_at_once_come_back(store: DecisionStore) -> None:
    items = [decision(f"{number:06}") for number in range(12_000)]
    assert store.append(REVIEW, items[::-1], ()).new == 12_000
    assert store.decisions(REVIEW) == tuple(items)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mysql://ada:hush@db/x", "names mysql, and decisions are kept in PostgreSQL"),
        ("sqlite:///", "names sqlite"),
        ("hush", "is no address; give postgresql://USER:PASSWORD@HOST/DATABASE"),
    ],
)
def test_an_address_of_another_kind_is_refused(url: str, said: str) -> None:
    with pytest.raises(SettingsError, match=f"TRANSECT_REVIEW_DATABASE {said}") as raised, open_store(url):
        pass
    assert "hush" not in str(raised.value)


def test_a_database_that_does_not_answer_is_named_without_its_password() -> None:
    url = "postgres://ada:hush@127.0.0.1:9/decisions?password=hush2"
    with (
        pytest.raises(UnreachableError, match=r"127.0.0.1:9/decisions cannot be read .*is the database up") as raised,
        open_store(url),
    ):
        pass
    assert "hush" not in str(raised.value)
    assert address_of(url).url.drivername == "postgresql+psycopg2"


def test_the_setting_chooses_the_database(tmp_path: Path) -> None:
    url = "postgresql://ada:hush@db/decisions"
    chosen = load_settings({"TRANSECT_REVIEW_DATABASE": url}, env_file=None)
    assert database_url(tmp_path, chosen) == url
    assert "hush" not in repr(chosen)


def test_the_command_migrates_the_database_of_the_setting(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    monkeypatch.setenv("TRANSECT_REVIEW_DATABASE", f"sqlite:///{file}")
    for done in ("brought up to date", "up to date already"):
        answer = CliRunner().invoke(app, ["review", "migrate"])
        assert (answer.exit_code, answer.stdout) == (0, f"The tables of reviews are {done}.\n")
    monkeypatch.delenv("TRANSECT_REVIEW_DATABASE")
    answer = CliRunner().invoke(app, ["review", "migrate"])
    assert isinstance(answer.exception, InputError)
    assert "there is nothing to migrate" in str(answer.exception)
