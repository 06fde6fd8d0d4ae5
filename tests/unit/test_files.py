import hashlib
import json
import stat
from pathlib import Path

import pytest

from transect.files import atomic_path, atomic_write, atomic_write_json, sha256_file


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
