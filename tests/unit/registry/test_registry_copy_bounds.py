"""`transect import` and `transect export` do not leave their folder, whatever it contains."""

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from registry_fixtures import copy_store
from toy_model import build_toy_package
from transect.errors import InputError
from transect.registry import Registry, connect, export_store, import_store
from transect.registry.client.queries import all_versions
from transect.registry.transfer import copy_models
from transect.registry.transfer.copy_runs import MlflowStore
from transect.settings import load_settings

_SECRET = "-----BEGIN OPENSSH PRIVATE KEY-----"


@pytest.fixture
def private(tmp_path: Path) -> Path:
    """A private file of the importing user."""
    folder = tmp_path / "private"
    folder.mkdir()
    (folder / "id_rsa").write_text(_SECRET)
    return folder


def _open_copy(store: Path, home: Path) -> Registry:
    copy_store(store, home)
    return connect(load_settings({"TRANSECT_HOME": str(home)}, env_file=None))


@pytest.fixture(scope="module")
def theirs(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """The store of a colleague: one run with a file, and a version that it made."""
    place = tmp_path_factory.mktemp("theirs")
    registry = _open_copy(empty_store, place / "home")
    run_id = registry.client.create_run(registry.experiment("paper")).info.run_id
    note = place / "note.txt"
    note.write_text("for the paper")
    registry.client.log_artifact(run_id, str(note), "notes")
    registry.register(build_toy_package(place / "package"), run_id, tags={})
    return registry


@pytest.fixture(scope="module")
def exported(theirs: Registry, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "given"
    export_store(theirs, folder)
    return folder


@pytest.fixture
def given(exported: Path, tmp_path: Path) -> Path:
    """What the colleague exported, to be changed."""
    return Path(shutil.copytree(exported, tmp_path / "given"))


@pytest.fixture(scope="module")
def mine(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """The store that is imported into; it stays empty, since everything is refused."""
    return _open_copy(empty_store, tmp_path_factory.mktemp("mine") / "home")


def _sql(folder: Path, statement: str, *values: str) -> None:
    with closing(sqlite3.connect(folder / "mlflow.db")) as database:
        database.execute(statement, values)
        database.commit()


def _run_of(folder: Path) -> tuple[str, str]:
    """Id and address of its one run."""
    with closing(sqlite3.connect(folder / "mlflow.db")) as database:
        ((run_id, uri),) = database.execute("SELECT run_uuid, artifact_uri FROM runs").fetchall()
    return str(run_id), str(uri)


def _files_of(folder: Path) -> Path:
    run_id, _ = _run_of(folder)
    return folder / "artifacts" / "paper" / run_id / "artifacts"


def _everything_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_a_folder_is_imported_wherever_it_lies_now(given: Path, registry: Registry, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(given)
    copied = import_store(registry, link)
    assert (copied.runs.new, copied.models.new, copied.models.remarks) == (1, 1, [])
    assert registry.fetch(registry.resolve("candidate")).is_dir()
    assert b"for the paper" in _everything_in(registry.settings.home / "artifacts")


@pytest.mark.parametrize("address", ["file://{private}", "{private}", "http://127.0.0.1:9/a", "s3://b/a", "ftp://h/a"])
def test_an_address_out_of_the_folder_is_refused_and_named_before_anything_is_copied(
    given: Path, mine: Registry, private: Path, address: str
) -> None:
    run_id, _ = _run_of(given)
    address = address.format(private=private)
    _sql(given, "UPDATE runs SET artifact_uri = ?", address)
    with pytest.raises(InputError, match=run_id) as caught:
        import_store(mine, given)
    assert repr(address) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert mine.client.get_experiment_by_name("paper") is None
    assert _SECRET.encode() not in _everything_in(mine.settings.home)


@pytest.mark.parametrize(
    "address",
    [
        "file://{private}",
        "{private}",
        "file:{private}",
        "file://localhost{private}",
        "http://127.0.0.1:9/artifacts/paper/{run}/artifacts",
        "https://h/artifacts/paper/{run}/artifacts",
        "s3://bucket/artifacts/paper/{run}/artifacts",
        "ftp://h/artifacts/paper/{run}/artifacts",
        "sftp://h/artifacts/paper/{run}/artifacts",
        "mlflow-artifacts:/artifacts/paper/{run}/artifacts",
        "mlflow-artifacts://h/artifacts/paper/{run}/artifacts",
        "runs:/{run}/artifacts",
        "models:/detector/1",
        "file://h/artifacts/paper/{run}/artifacts",
        "file:///artifacts/../{run}/artifacts",
        "file:///x/artifacts/%2e%2e/{run}/artifacts",
        "file:///artifacts/paper/{run}/artifacts/../../../../private",
        "file:///x/artifacts/paper/{run}/artifacts/more",
        "file:///x/artifacts/paper/00000000000000000000000000000000/artifacts",
        "file:///x/artifacts/pa%00per/{run}/artifacts",
        "file:///x/artifacts/paper/{run}/artifacts?more=1",
        "file:///x/artifacts/paper/{run}/artifacts#more",
        "http://[",
        "",
    ],
)
def test_only_an_export_s_own_addresses_are_read(theirs: Registry, tmp_path: Path, address: str) -> None:
    run = theirs.client.search_runs([theirs.experiment("paper")])[0]
    run.info._artifact_uri = address.format(private=tmp_path, run=run.info.run_id)
    with pytest.raises(InputError, match=run.info.run_id) as caught:
        MlflowStore(theirs, tmp_path).root(run)
    assert repr(run.info.artifact_uri) in str(caught.value)


def test_an_export_s_own_address_means_this_folder(theirs: Registry, tmp_path: Path) -> None:
    run = theirs.client.search_runs([theirs.experiment("paper")])[0]
    for prefix in ("file:///old/place/", "/old/place/", "file:///"):
        run.info._artifact_uri = f"{prefix}artifacts/p%23per/{run.info.run_id}/artifacts"
        expected = tmp_path.resolve() / "artifacts" / "p#per" / run.info.run_id / "artifacts"
        assert MlflowStore(theirs, tmp_path).root(run) == expected.as_uri()


def _link_to_file(files: Path, private: Path) -> None:
    (files / "notes" / "id_rsa").symlink_to(private / "id_rsa")


def _link_to_folder(files: Path, private: Path) -> None:
    (files / "notes" / "deep").mkdir()
    (files / "notes" / "deep" / "ssh").symlink_to(private)


def _link_inside(files: Path, private: Path) -> None:
    assert private.is_dir()
    (files / "again.txt").symlink_to("notes/note.txt")


def _run_is_link(files: Path, private: Path) -> None:
    shutil.rmtree(files)
    files.symlink_to(private)


def _experiment_is_link(files: Path, private: Path) -> None:
    experiment = files.parent.parent
    moved = shutil.move(experiment, private / "paper")
    (Path(moved) / files.parent.name / "artifacts" / "id_rsa").write_text(_SECRET)
    experiment.symlink_to(moved)


def _pipe(files: Path, private: Path) -> None:
    assert private.is_dir()
    os.mkfifo(files / "pipe")


_LINKS = [_link_to_file, _link_to_folder, _link_inside, _run_is_link, _experiment_is_link, _pipe]


@pytest.mark.parametrize("plant", _LINKS)
def test_links_in_the_folder_are_not_followed(
    given: Path, mine: Registry, private: Path, plant: Callable[[Path, Path], None]
) -> None:
    plant(_files_of(given), private)
    with pytest.raises(InputError, match=f"files of run {_run_of(given)[0]}, is a link or no regular file") as caught:
        import_store(mine, given)
    assert "\n" not in str(caught.value)
    assert _SECRET.encode() not in _everything_in(mine.settings.home)


@pytest.mark.parametrize("name", ["mlflow.db", "mlflow.db-wal", "mlflow.db.lock", ".transect-copy.lock", "artifacts"])
def test_the_store_itself_is_no_link(given: Path, mine: Registry, private: Path, name: str) -> None:
    if (given / name).exists():
        shutil.move(given / name, private / name)
    (given / name).symlink_to(private / name)
    before = sorted(private.iterdir())
    with pytest.raises(InputError, match=f"{name} is a link"):
        import_store(mine, given)
    with pytest.raises(InputError, match=f"{name} is a link"):
        export_store(mine, given)
    assert sorted(private.iterdir()) == before


def test_a_version_elsewhere_is_refused_and_named(given: Path, registry: Registry, private: Path) -> None:
    run_id, root = _run_of(given)
    address = f"{root}/model/../../../../../../{private.name}"
    _sql(given, "UPDATE model_versions SET source = ?, storage_location = ?", address, address)
    with pytest.raises(InputError, match=f"not among those of its run {run_id}") as caught:
        import_store(registry, given)
    assert repr(address) in str(caught.value)
    assert registry.list_versions() == []


@pytest.mark.parametrize(
    ("address", "folder"),
    [
        ("{root}/model", "model"),
        ("{root}/model/", "model"),
        ("{root}/a/b c", "a/b c"),
        ("{root}", ""),
        ("file:///home/me/.ssh", None),
        ("s3://bucket/model", None),
        ("http://127.0.0.1:9/model", None),
        ("runs:/{run}/model", None),
        ("{root}/../../{run}/artifacts/model", None),
        ("{root}/.hidden", None),
        ("{root}/%2e%2e/model", None),
        ("{root}//model", None),
        ("{root}x/model", None),
        ("{root}/model?x", None),
        ("", None),
    ],
)
def test_a_version_is_among_the_files_of_its_run(theirs: Registry, address: str, folder: str | None) -> None:
    (version,) = all_versions(theirs.client, "detector")
    run = theirs.client.get_run(str(version.run_id))
    version._source = address.format(root=run.info.artifact_uri, run=version.run_id)
    assert copy_models._folder_of(version, run) == folder


def test_an_export_writes_into_its_folder_alone(given: Path, theirs: Registry, private: Path, tmp_path: Path) -> None:
    """A folder that was exported once and came back from elsewhere is written into again."""
    note = tmp_path / "later.txt"
    note.write_text("later")
    run_id = theirs.client.create_run(theirs.experiment("paper")).info.run_id
    theirs.client.log_artifact(run_id, str(note))
    _sql(given, "UPDATE experiments SET artifact_location = ? WHERE name = 'paper'", private.as_uri())
    with pytest.raises(InputError, match="which is not in it"):
        export_store(theirs, given)
    assert [path.name for path in private.rglob("*")] == ["id_rsa"]


@pytest.mark.parametrize(
    ("address", "copied"),
    [
        ("mlflow-artifacts:/1/{run}/artifacts", True),
        ("s3://bucket/1/{run}/artifacts", True),
        ("file:///home/me/.ssh", False),
        ("/home/me/.ssh", False),
        ("http://elsewhere/1", False),
        ("ftp://elsewhere/1", False),
        # MLflow's client would tell that host the password of the server.
        ("mlflow-artifacts://elsewhere/1", False),
        ("http://[", False),
    ],
)
def test_a_server_names_no_place_of_this_machine(theirs: Registry, address: str, copied: bool) -> None:
    run_id = "0" * 32
    address = address.format(run=run_id)
    run = theirs.client.search_runs([theirs.experiment("paper")])[0]
    run.info._artifact_uri = address
    server = SimpleNamespace(uri="http://someone:secret@127.0.0.1:9", client=theirs.client)
    place = MlflowStore(server)  # type: ignore[arg-type]  # only its address is looked at
    if copied:
        assert place.root(run) == address
        return
    with pytest.raises(InputError, match=run.info.run_id) as caught:
        place.root(run)
    assert repr(address) in str(caught.value)
    assert "secret" not in str(caught.value)
