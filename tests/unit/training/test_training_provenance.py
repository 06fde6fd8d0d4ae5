import subprocess
from pathlib import Path

import pytest

from transect.training.provenance import UNKNOWN, read_provenance


def _git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True)


def test_commit_and_changes_of_the_repository(tmp_path: Path) -> None:
    _git(tmp_path, "init")
    (tmp_path / "a").write_text("1")
    _git(tmp_path, "add", "a")
    _git(tmp_path, "commit", "-m", "a")
    clean = read_provenance(tmp_path)
    assert len(clean.git_commit) == 40
    assert not clean.git_dirty
    (tmp_path / "a").write_text("2")
    dirty = read_provenance(tmp_path)
    assert dirty.git_commit == clean.git_commit
    assert dirty.git_dirty


def test_outside_a_repository_the_commit_is_unknown(tmp_path: Path) -> None:
    found = read_provenance(tmp_path)
    assert (found.git_commit, found.git_dirty) == (UNKNOWN, False)


def test_without_git_the_commit_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert read_provenance(Path.cwd()).git_commit == UNKNOWN


def test_a_container_is_told_its_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_COMMIT", "0123abcd")
    monkeypatch.setenv("GIT_DIRTY", "true")
    found = read_provenance(tmp_path)
    assert (found.git_commit, found.git_dirty) == ("0123abcd", True)


def test_versions_name_what_the_result_depends_on() -> None:
    versions = read_provenance(Path.cwd()).versions
    assert {"python", "transect", "ultralytics", "torch", "mlflow", "onnx", "openvino"} <= set(versions)
