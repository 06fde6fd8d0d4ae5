import subprocess
from pathlib import Path

import pytest

from transect.tracking.provenance import UNKNOWN, installed_packages, read_provenance, source_diff


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


def test_a_container_is_told_its_revision_and_its_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    patch = b"# not in git: new\n--- a/photo\n\xe9\r\n"
    (tmp_path / "changes.patch").write_bytes(patch)
    monkeypatch.setenv("GIT_COMMIT", "0123abcd")
    monkeypatch.setenv("GIT_DIRTY", "true")
    monkeypatch.setenv("GIT_CHANGES", str(tmp_path / "changes.patch"))
    monkeypatch.setenv("HOST_NAME", "survey-server")
    found = read_provenance(tmp_path)
    assert (found.git_commit, found.git_dirty, found.host) == ("0123abcd", True, "survey-server")
    assert source_diff(tmp_path).encode(errors="surrogateescape") == patch
    monkeypatch.setattr("transect.tracking.provenance._LONGEST_DIFF", 3)
    assert source_diff(tmp_path) == f"# (the changes are {len(patch)} bytes long and were left out)\n"


def test_versions_name_what_the_result_depends_on() -> None:
    versions = read_provenance(Path.cwd()).versions
    assert {"python", "transect", "ultralytics", "torch", "mlflow", "onnx", "openvino"} <= set(versions)


def test_the_patch_makes_the_changes_again_and_names_what_git_does_not_know(tmp_path: Path) -> None:
    repository, copy = tmp_path / "one", tmp_path / "two"
    repository.mkdir()
    _git(repository, "init")
    (repository / "a").write_bytes(b"1\r\n")
    (repository / "b").write_bytes(b"\x00\xff")
    (repository / ".gitignore").write_text("secret\n")
    _git(repository, "add", ".")
    _git(repository, "commit", "-m", "a")
    assert source_diff(repository, "always") == ""
    _git(tmp_path, "clone", str(repository), str(copy))
    (repository / "a").write_bytes(b"2 \xe9  \r\n\n")
    (repository / "b").write_bytes(b"\x00\xfe")
    (repository / "new").write_text("never published")
    (repository / "secret").write_text("never named")
    (repository / "below").mkdir()
    patch = source_diff(repository / "below", "always")
    assert "# not in git: new\n" in patch
    assert "never" not in patch
    assert "secret" not in patch
    (tmp_path / "changes.patch").write_bytes(patch.encode(errors="surrogateescape"))
    _git(copy, "apply", str(tmp_path / "changes.patch"))
    assert (copy / "a").read_bytes() == (repository / "a").read_bytes()
    assert (copy / "b").read_bytes() == (repository / "b").read_bytes()


def test_the_diff_of_a_foreign_repository_is_nobodys_business(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _git(tmp_path, "init")
    (tmp_path / "a").write_text("1")
    _git(tmp_path, "add", "a")
    _git(tmp_path, "commit", "-m", "a")
    (tmp_path / "a").write_text("2")
    (tmp_path / "unknown").touch()
    assert source_diff(tmp_path) == ""
    assert "+2" in source_diff(tmp_path, "always")
    # As Transect's own: from any folder in it.
    monkeypatch.setattr("transect.tracking.provenance._OWN_REPOSITORY", tmp_path.resolve())
    (tmp_path / "below").mkdir()
    assert "+2" in source_diff(tmp_path / "below")
    assert source_diff(tmp_path, "never") == ""


def test_secrets_are_left_out_of_the_diff_whatever_git_is_told(tmp_path: Path) -> None:
    _git(tmp_path, "init")
    (tmp_path / "a.py").write_text("1\n")
    (tmp_path / ".env.prod").write_text("1\n")
    _git(tmp_path, "add", ".")
    _git(tmp_path, "commit", "-m", "a")
    (tmp_path / "a.py").write_text("2\n")
    (tmp_path / ".env.prod").write_text("CANARY\n")
    (tmp_path / "newkey.pem").write_text("CANARY\n")
    _git(tmp_path, "add", "newkey.pem")
    for name, value in (("diff.noprefix", "true"), ("diff.mnemonicPrefix", "true"), ("core.quotePath", "false")):
        _git(tmp_path, "config", name, value)
        patch = source_diff(tmp_path, "always")
        assert "CANARY" not in patch
        assert "# left out: .env.prod, which holds secrets by its name\n" in patch
        assert "# left out: newkey.pem, which holds secrets by its name\n" in patch
        assert "+2\n" in patch


def test_the_changes_that_a_container_is_told_are_cleaned_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    patch = "diff --git a/.env b/.env\n--- a/.env\n+++ b/.env\n@@ -1 +1 @@\n-a\n+CANARY\n"
    (tmp_path / "changes.patch").write_text(patch)
    monkeypatch.setenv("GIT_CHANGES", str(tmp_path / "changes.patch"))
    assert source_diff(tmp_path) == "# left out: .env, which holds secrets by its name\n"
    assert source_diff(tmp_path, "never") == ""


def test_the_command_holds_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "sys.argv", ["/x/transect", "train", "--data", "https://u:CANARY@h/d.yaml", "+tags.token=CANARY"]
    )
    assert read_provenance(Path.cwd()).command == "transect train --data https://REDACTED@h/d.yaml +tags.token=REDACTED"


def test_outside_a_repository_there_is_no_patch(tmp_path: Path) -> None:
    assert source_diff(tmp_path) == ""


def test_every_package_is_named_with_its_version() -> None:
    lines = installed_packages().splitlines()
    assert any(line.startswith("torch==") for line in lines)
    assert lines == sorted(lines)
