"""The command lines of `make census` and `make sync`: who they run as, and where a census keeps things."""

import os
import runpy
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import compose
import mounts
import pytest

MAIN = Path(__file__).resolve().parents[3] / "docker" / "stack" / "__main__.py"
# For root it is the user of the image.
UID, GID = (os.getuid(), os.getgid()) if os.getuid() else (10001, 10001)


@pytest.fixture
def census(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """The command that `make census` becomes, with a running stack and a built image."""
    monkeypatch.setattr(compose, "ROOT", tmp_path)
    monkeypatch.setattr(mounts, "HOMES", tmp_path / "runs" / "stack")
    for name in ("GPU", "ACCELERATOR", "TRANSECT_GPUS", "TRANSECT_DEM_PATH", "SUDO_UID", "MODEL", "CONFIG", "ARGS"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "herd").mkdir()
    (tmp_path / "herd" / "survey.yaml").touch()
    monkeypatch.setenv("SURVEY", str(tmp_path / "herd"))
    monkeypatch.setenv("OUT", str(tmp_path / "results"))
    became: list[list[str]] = []
    run: Any = runpy.run_path(str(MAIN))["census"]
    # What asks Docker.
    run.__globals__.update(
        runtime=lambda: "stack",
        build_once=lambda service: None,
        compose_value=lambda service, key: "transect-census:cuda",
        provenance_options=lambda image: [],
        replace_by=lambda command: became.append(list(command)),
    )

    def command() -> list[str]:
        run()
        return became.pop()

    return command


def _after(option: str, command: list[str]) -> list[str]:
    return [value for name, value in pairwise(command) if name == option]


@pytest.mark.parametrize("gpu", ["", "1"])
def test_its_home_is_a_folder_of_the_user_that_it_runs_as(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, census: Callable[[], list[str]], gpu: str
) -> None:
    monkeypatch.setenv("GPU", gpu)
    home = tmp_path / "runs" / "stack" / f"census-{UID}"
    first = census()
    assert _after("--user", first) == [f"{UID}:{GID}"]
    assert _after("--env", first) == [f"TRANSECT_HOME={home}"]
    # Writable, at its own path.
    assert f"{home}:{home}" in _after("--volume", first)
    found = home.stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (UID, GID, 0o700)
    # The next census finds what the first one left.
    (home / "engine").touch()
    assert census() == first
    assert (home / "engine").is_file()


def test_a_home_that_cannot_be_made_is_one_sentence(tmp_path: Path, census: Callable[[], list[str]]) -> None:
    (tmp_path / "runs").write_text("in the way", encoding="utf-8")
    with pytest.raises(compose.StackError, match=r"census-\d+ keeps what censuses need later, and cannot be made"):
        census()


@pytest.mark.parametrize(("statuses", "expected"), [((0, 0), 0), ((4, 0), 4), ((0, 4), 4)])
def test_sync_delivers_censuses_with_their_own_account_where_some_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, statuses: tuple[int, int], expected: int
) -> None:
    monkeypatch.setattr(compose, "ROOT", tmp_path)
    monkeypatch.setattr(mounts, "HOMES", tmp_path / "runs" / "stack")
    monkeypatch.delenv("SUDO_UID", raising=False)
    ran: list[list[str]] = []
    sync: Any = runpy.run_path(str(MAIN))["sync"]

    def run(command: list[str]) -> int:
        ran.append(command)
        return statuses[len(ran) - 1]

    sync.__globals__.update(
        runtime=lambda: "stack",
        build_once=lambda service: None,
        compose_value=lambda service, key: f"transect-{service}:local",
        provenance_options=lambda image: [],
        run=run,
    )
    assert sync() == statuses[0]
    (trainings,) = ran
    assert not (tmp_path / "runs").exists()
    assert trainings[-4:] == ["trainer", "transect", "runs", "sync"]

    home = tmp_path / "runs" / "stack" / f"census-{UID}"
    (home / "census" / "herd-0a1b" / "spool").mkdir(parents=True)
    (home / "census" / "herd-0a1b" / "spool" / "journal.jsonl").touch()
    ran.clear()
    assert sync() == expected
    assert ran[0] == trainings
    assert ran[1][-4:] == ["census", "transect", "runs", "sync"]
    assert _after("--user", ran[1]) == [f"{UID}:{GID}"]
    assert _after("--env", ran[1]) == [f"TRANSECT_HOME={home}"]
    assert _after("--volume", ran[1]) == [f"{home}:{home}"]


def test_the_folder_of_elevation_models_is_seen_at_its_own_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, census: Callable[[], list[str]]
) -> None:
    (tmp_path / "dem").mkdir()
    # In .env, as a setting; the container knows it by its whole path.
    (tmp_path / ".env").write_text(f"TRANSECT_DEM_PATH={tmp_path}/herd/../dem\n", encoding="utf-8")
    command = census()
    assert f"TRANSECT_DEM_PATH={tmp_path}/dem" in _after("--env", command)
    assert f"{tmp_path}/dem:{tmp_path}/dem:ro" in _after("--volume", command)
    monkeypatch.setenv("TRANSECT_DEM_PATH", str(tmp_path / "none"))
    with pytest.raises(compose.StackError, match=r"TRANSECT_DEM_PATH=.*none is no folder"):
        census()


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """What is given to another user by root, who runs this."""
    paths: set[str] = set()
    monkeypatch.delenv("SUDO_UID", raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 0)
    monkeypatch.setattr(os, "chown", lambda path, uid, gid, follow_symlinks: paths.add(str(path)))
    return paths


def test_root_gives_away_what_a_census_made_and_nothing_else(tmp_path: Path, given: set[str]) -> None:
    writer: Any = runpy.run_path(str(MAIN))["writer"]
    out, outside = tmp_path / "out", tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").touch()
    out.mkdir()
    assert writer(out) == "10001:10001"
    assert given == {str(out)}
    for name in (".lock", "work/key/0a/x.json", "0123456789ab/report.html", "notes/mine.txt"):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).touch()
    (out / "work" / "link").symlink_to(outside)
    given.clear()
    writer(out)
    made = {"", ".lock", "work", "work/key", "work/key/0a", "work/key/0a/x.json", "work/link", "0123456789ab"}
    assert given == {str(out / name) for name in made | {"0123456789ab/report.html"}}


def test_root_does_not_give_away_a_folder_of_other_things(tmp_path: Path, given: set[str]) -> None:
    main = runpy.run_path(str(MAIN))
    (tmp_path / "passwd").touch()
    with pytest.raises(compose.StackError, match="holds other files"):
        main["writer"](tmp_path)
    assert not given
