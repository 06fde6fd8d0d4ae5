"""Provenance that is passed to containers: user, host and source version."""

import platform
import subprocess
from pathlib import Path

import provenance_env
import pytest


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one commit, as the one that the stack is started from."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    git(folder, "init")
    (folder / "code.py").write_text("a = 1\n", encoding="utf-8")
    (folder / ".gitignore").write_text("/runs/\n", encoding="utf-8")
    git(folder, "add", ".")
    git(folder, "commit", "-m", "a")
    monkeypatch.delenv("TRANSECT_SOURCE_DIFF", raising=False)
    monkeypatch.setattr(provenance_env, "ROOT", folder)
    monkeypatch.setattr(provenance_env, "CHANGES", folder / "runs" / "stack" / "changes.patch")
    return folder


def told(options: list[str]) -> dict[str, str]:
    """The variables among the options."""
    return dict(text.split("=", 1) for name, text in zip(options[::2], options[1::2], strict=True) if name == "--env")


@pytest.mark.usefixtures("checkout")
def test_a_container_gets_the_host_and_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "root")
    monkeypatch.setenv("SUDO_USER", "ada")
    found = told(provenance_env.provenance_options("no-such-image:local"))
    assert found["USER"] == "ada"
    assert found["HOST_NAME"] == platform.node()
    # An image that is not there has no digest to tell.
    assert "CONTAINER_IMAGE" not in found


@pytest.mark.usefixtures("checkout")
def test_the_user_is_known_without_any_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SUDO_USER", "LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    assert told(provenance_env.provenance_options("no-such-image:local"))["USER"] not in ("", "unknown")


def test_a_clean_source_is_its_commit_alone(checkout: Path) -> None:
    options = provenance_env.provenance_options("no-such-image:local")
    assert told(options)["GIT_DIRTY"] == "false"
    assert "GIT_CHANGES" not in told(options)
    assert "--volume" not in options
    assert not (checkout / "runs").exists()


def test_the_changes_of_the_source_are_mounted_and_make_it_again(checkout: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", str(checkout), "copy")
    (checkout / "code.py").write_text("a = 2\n", encoding="utf-8")
    (checkout / "notes.txt").write_text("never published", encoding="utf-8")
    options = provenance_env.provenance_options("no-such-image:local")
    assert told(options)["GIT_DIRTY"] == "true"
    source, inside, mode = options[options.index("--volume") + 1].split(":")
    assert (inside, mode) == (told(options)["GIT_CHANGES"], "ro")
    patch = Path(source).read_text(encoding="utf-8")
    assert patch.startswith("# not in git: notes.txt\n")
    assert "never" not in patch
    git(tmp_path / "copy", "apply", source)
    assert (tmp_path / "copy" / "code.py").read_text(encoding="utf-8") == "a = 2\n"
    # A stranger reads it, and nothing else is left beside it.
    assert Path(source).stat().st_mode & 0o777 == 0o644
    assert [path.name for path in Path(source).parent.iterdir()] == ["changes.patch"]


def test_secrets_are_in_no_patch(checkout: Path) -> None:
    (checkout / "code.py").write_text("password = 'CANARY'\n", encoding="utf-8")
    (checkout / ".env.prod").write_text("CANARY\n", encoding="utf-8")
    git(checkout, "add", ".")
    options = provenance_env.provenance_options("no-such-image:local")
    source = options[options.index("--volume") + 1].split(":")[0]
    patch = Path(source).read_text(encoding="utf-8")
    assert "CANARY" not in patch
    assert "# left out: .env.prod, which holds secrets by its name\n" in patch
    assert "# left out: a part of code.py (@@ -1 +1 @@) that looks as if it held a secret\n" in patch


@pytest.mark.parametrize(
    ("wanted", "foreign", "published"), [("never", False, False), ("own", True, False), ("always", True, True)]
)
def test_whose_changes_are_published_is_a_setting(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, wanted: str, foreign: bool, published: bool
) -> None:
    monkeypatch.setenv("TRANSECT_SOURCE_DIFF", wanted)
    (checkout / "code.py").write_text("a = 2\n", encoding="utf-8")
    if foreign:
        (checkout / "transect").mkdir()
        monkeypatch.setattr(provenance_env, "ROOT", checkout / "transect")
    assert ("GIT_CHANGES" in told(provenance_env.provenance_options("no-such-image:local"))) is published
