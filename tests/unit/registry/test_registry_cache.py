import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from toy_model import build_toy_package
from transect.engine import package_sha256
from transect.errors import PackageError
from transect.registry import LocalCache, ResolvedVersion


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_toy_package(tmp_path_factory.mktemp("toy") / "package")


@pytest.fixture
def resolved(package: Path) -> ResolvedVersion:
    return ResolvedVersion(
        name="detector",
        version="3",
        run_id="run",
        source="file:///x",
        package_sha256=package_sha256(package),
        aliases=("production",),
        alias="production",
        tags={"a": "b"},
    )


def _copier(package: Path) -> Callable[[Path], Path]:
    return lambda scratch: Path(shutil.copytree(package, scratch / "model"))


def _leftovers(cache: LocalCache) -> list[Path]:
    incoming = cache.root / ".incoming"
    return sorted(incoming.iterdir()) if incoming.exists() else []


def test_a_package_is_kept_by_version_and_hash(tmp_path: Path, package: Path, resolved: ResolvedVersion) -> None:
    cache = LocalCache(tmp_path)
    assert cache.get(resolved) is None
    folder = cache.put(resolved, _copier(package))
    assert folder == tmp_path / "models" / "detector" / f"3-{resolved.package_sha256[:12]}"
    assert cache.get(resolved) == folder
    assert cache.get(replace(resolved, version="4")) is None
    assert _leftovers(cache) == []


def test_the_same_version_number_with_other_files_is_another_entry(
    tmp_path: Path, package: Path, resolved: ResolvedVersion
) -> None:
    cache = LocalCache(tmp_path)
    cache.put(resolved, _copier(package))
    assert cache.get(replace(resolved, package_sha256="0" * 64)) is None


@pytest.mark.parametrize("harm", ["truncate", "flip", "remove", "manifest"])
def test_a_damaged_download_is_refused_and_leaves_nothing(
    tmp_path: Path, package: Path, resolved: ResolvedVersion, harm: str
) -> None:
    cache = LocalCache(tmp_path)

    def download(scratch: Path) -> Path:
        folder = Path(shutil.copytree(package, scratch / "model"))
        _harm(folder, harm)
        return folder

    with pytest.raises(PackageError):
        cache.put(resolved, download)
    assert cache.get(resolved) is None
    assert _leftovers(cache) == []


@pytest.mark.parametrize("harm", ["truncate", "flip", "remove", "manifest"])
def test_a_damaged_entry_is_replaced(tmp_path: Path, package: Path, resolved: ResolvedVersion, harm: str) -> None:
    cache = LocalCache(tmp_path)
    folder = cache.put(resolved, _copier(package))
    _harm(folder, harm)
    assert cache.get(resolved) is None
    assert cache.put(resolved, _copier(package)) == folder
    assert cache.get(resolved) == folder
    assert _leftovers(cache) == []


def _harm(folder: Path, how: str) -> None:
    model = folder / "model.onnx"
    content = model.read_bytes()
    match how:
        case "truncate":
            model.write_bytes(content[:-1])
        case "flip":
            model.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        case "remove":
            model.unlink()
        case _:
            manifest = json.loads((folder / "package.json").read_text())
            (folder / "package.json").write_text(json.dumps({**manifest, "conf": 0.01}))


def test_a_failed_download_leaves_nothing(tmp_path: Path, resolved: ResolvedVersion) -> None:
    cache = LocalCache(tmp_path)

    def download(scratch: Path) -> Path:
        (scratch / "part").write_bytes(b"half")
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        cache.put(resolved, download)
    assert _leftovers(cache) == []


def test_the_last_known_version_survives_a_restart(tmp_path: Path, package: Path, resolved: ResolvedVersion) -> None:
    cache = LocalCache(tmp_path)
    folder = cache.put(resolved, _copier(package))
    cache.remember(resolved)
    assert LocalCache(tmp_path).last_known("detector", "production") == (resolved, folder)
    assert LocalCache(tmp_path).last_known("detector", "candidate") is None
    assert LocalCache(tmp_path).last_known("other", "production") is None


def test_a_version_that_was_asked_for_by_number_is_not_what_an_alias_was(
    tmp_path: Path, package: Path, resolved: ResolvedVersion
) -> None:
    cache = LocalCache(tmp_path)
    by_number = replace(resolved, alias=None)
    cache.put(by_number, _copier(package))
    cache.remember(by_number)
    assert cache.last_known("detector", "production") is None


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"name": "detector"}', '{"aliases": 3}'])
def test_an_unreadable_note_is_no_last_known_version(tmp_path: Path, content: str) -> None:
    cache = LocalCache(tmp_path)
    note = tmp_path / "models" / "detector" / "alias-production.json"
    note.parent.mkdir(parents=True)
    note.write_text(content)
    assert cache.last_known("detector", "production") is None


def test_a_damaged_last_known_version_is_not_served(tmp_path: Path, package: Path, resolved: ResolvedVersion) -> None:
    cache = LocalCache(tmp_path)
    _harm(cache.put(resolved, _copier(package)), "flip")
    cache.remember(resolved)
    assert cache.last_known("detector", "production") is None


@pytest.mark.parametrize("name", ["..", ".", "a/../../b", ".incoming"])
def test_no_model_name_leads_out_of_the_cache(
    tmp_path: Path, package: Path, resolved: ResolvedVersion, name: str
) -> None:
    cache = LocalCache(tmp_path / "cache")
    folder = cache.put(replace(resolved, name=name), _copier(package))
    assert folder.resolve().parent.parent == (tmp_path / "cache" / "models").resolve()


def _fetch_after(barrier_file: str, root: str, package: str, resolved: ResolvedVersion) -> str:
    while not Path(barrier_file).exists():
        time.sleep(0.005)
    return str(LocalCache(Path(root)).put(resolved, _copier(Path(package))))


def test_processes_that_fetch_at_once_all_succeed(tmp_path: Path, package: Path, resolved: ResolvedVersion) -> None:
    start = tmp_path / "start"
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        arguments = (str(start), str(tmp_path / "cache"), str(package), resolved)
        answers = [pool.apply_async(_fetch_after, arguments) for _ in range(2)]
        start.touch()
        folders = {answer.get(120) for answer in answers}
    cache = LocalCache(tmp_path / "cache")
    assert folders == {str(cache.get(resolved))}
    assert _leftovers(cache) == []


_HANGING = """
import sys, time
from pathlib import Path
from transect.registry.versions.cache import LocalCache, ResolvedVersion
def download(scratch):
    (scratch / "part").write_bytes(b"half")
    print("downloading", flush=True)
    time.sleep(600)
LocalCache(Path(sys.argv[1])).put(ResolvedVersion(
    name="detector", version="1", run_id="", source="", package_sha256="0" * 64
), download)
"""


def test_what_a_killed_download_left_goes_at_the_next_start_and_a_living_one_stays(tmp_path: Path) -> None:
    cache = LocalCache(tmp_path)
    process = subprocess.Popen([sys.executable, "-c", _HANGING, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "downloading\n"
        cache.clean()
        assert len(_leftovers(cache)) == 1
        os.kill(process.pid, signal.SIGKILL)
    finally:
        process.kill()
        process.communicate()
    assert len(_leftovers(cache)) == 1
    cache.clean()
    assert _leftovers(cache) == []


def _versions(cache: LocalCache, package: Path, resolved: ResolvedVersion, numbers: Sequence[int]) -> None:
    """Put versions into the cache that were last used in this order, long ago."""
    for age, number in enumerate(reversed(numbers)):
        folder = cache.put(replace(resolved, version=str(number)), _copier(package))
        os.utime(folder, (1000 - age, 1000 - age))


def _here(cache: LocalCache) -> set[str]:
    return {folder.name.partition("-")[0] for folder in (cache.root / "detector").glob("[0-9]*-*")}


def test_pruning_keeps_what_was_used_last(tmp_path: Path, package: Path, resolved: ResolvedVersion) -> None:
    cache = LocalCache(tmp_path)
    _versions(cache, package, resolved, [1, 2, 3, 4])
    assert cache.get(replace(resolved, version="1")) is not None  # used again just now
    assert len(cache.prune("detector", 2)) == 2
    assert _here(cache) == {"1", "4"}
    assert cache.prune("detector", 2) == []
    assert _leftovers(cache) == []
    assert cache.prune("nothing", 2) == []


def test_pruning_spares_what_an_alias_named_last(tmp_path: Path, package: Path, resolved: ResolvedVersion) -> None:
    cache = LocalCache(tmp_path)
    _versions(cache, package, resolved, [1, 2, 3, 4])
    cache.remember(replace(resolved, version="1"))
    cache.remember(replace(resolved, version="2", alias="candidate"))
    cache.prune("detector", 1)
    assert _here(cache) == {"1", "2", "4"}


def test_pruning_spares_what_another_process_serves(tmp_path: Path, package: Path, resolved: ResolvedVersion) -> None:
    cache = LocalCache(tmp_path)
    _versions(cache, package, resolved, [1, 2, 3])
    code = (
        "import sys, json; from pathlib import Path; from transect.registry import LocalCache, ResolvedVersion\n"
        "with LocalCache(Path(sys.argv[1])).in_use(ResolvedVersion(**json.loads(sys.argv[2]))):\n"
        "    print('holding', flush=True); sys.stdin.read()"
    )
    old = json.dumps(asdict(replace(resolved, version="1")))
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path), old], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"holding\n"
        cache.prune("detector", 1)
        assert _here(cache) == {"1", "3"}
        other.kill()
        other.wait()
    cache.prune("detector", 1)
    assert _here(cache) == {"3"}


def test_two_that_prune_at_once_do_no_harm(tmp_path: Path, package: Path, resolved: ResolvedVersion) -> None:
    cache = LocalCache(tmp_path)
    _versions(cache, package, resolved, range(1, 9))
    failures: list[Exception] = []

    def prune() -> None:
        try:
            LocalCache(tmp_path).prune("detector", 2)
        except Exception as error:  # noqa: BLE001 - reported by the test itself
            failures.append(error)

    threads = [threading.Thread(target=prune) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert _here(cache) == {"7", "8"}
