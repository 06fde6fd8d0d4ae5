import hashlib
import json
import stat
from pathlib import Path

import pytest

from transect.files import atomic_path, atomic_write, atomic_write_json, locked_if_free, remove_partial, sha256_file


def test_sha256_is_the_content_s(tmp_path: Path) -> None:
    content = bytes(range(256)) * 9000  # more than one chunk
    (tmp_path / "a").write_bytes(content)
    assert sha256_file(tmp_path / "a") == hashlib.sha256(content).hexdigest()


def test_atomic_write_makes_folders_and_leaves_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "new" / "file.txt"
    atomic_write(target, "wildebeest é")
    assert target.read_text(encoding="utf-8") == "wildebeest é"
    assert list(target.parent.iterdir()) == [target]


def test_a_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "counts.csv"
    target.write_text("old")

    def fail_midway() -> None:
        with atomic_path(target) as temporary:
            temporary.write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail_midway()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_atomic_files_have_usual_permissions(tmp_path: Path) -> None:
    atomic_write(tmp_path / "a", b"x")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) & 0o444 == 0o444


def test_json_with_nan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        atomic_write_json(tmp_path / "a.json", {"density": float("nan")})
    assert not (tmp_path / "a.json").exists()
    atomic_write_json(tmp_path / "a.json", {"density": 1.5})
    assert json.loads((tmp_path / "a.json").read_text()) == {"density": 1.5}


@pytest.mark.parametrize("name", ["report.html", "animals.gpkg", "plain", "é" * 120 + ".json"])
def test_what_a_killed_writer_left_is_removed_and_nothing_else(tmp_path: Path, name: str) -> None:
    mine = [tmp_path / other for other in (".report.backup.html", ".a.part", "a.01234567.part.csv", name)]
    for path in mine:
        path.write_text("mine")
    with atomic_path(tmp_path / name) as temporary:
        # What stays when the process is killed here, and what SQLite has beside its file.
        kept = temporary.read_bytes()
        left = [temporary, temporary.with_name(temporary.name + "-journal")]
    for path in left:
        path.write_bytes(kept)
    assert all(path.suffix.startswith(Path(name).suffix) for path in left)
    remove_partial(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted(mine)


def test_a_lock_is_one_process_s(tmp_path: Path) -> None:
    with locked_if_free(tmp_path / "lock") as first, locked_if_free(tmp_path / "lock") as second:
        assert (first, second) == (True, False)
    with locked_if_free(tmp_path / "lock") as again:
        assert again
