import stat
from pathlib import Path

import pytest
from compose import ROOT
from cryptography.fernet import Fernet
from fill_env import LEAST_LENGTH, PlaceholderError, empty_secrets, fill, fill_file, secret_names

EXAMPLE = "# A default.\n# SIZE=3\n\n# A secret.\nALPHA_PASSWORD=\n\n# Another.\nBETA_KEY=\n"
STRONG = "k2J-8fhw_Q1x9d7Z"


def test_an_uncommented_empty_line_is_a_secret() -> None:
    assert secret_names(EXAMPLE) == ["ALPHA_PASSWORD", "BETA_KEY"]


def test_empty_secrets_are_filled_in_place() -> None:
    text, filled = fill(EXAMPLE, EXAMPLE, {})
    assert filled == ["ALPHA_PASSWORD", "BETA_KEY"]
    assert [line.split("=")[0] for line in text.splitlines()] == [line.split("=")[0] for line in EXAMPLE.splitlines()]
    values = [line.partition("=")[2] for line in text.splitlines() if line.startswith(("ALPHA", "BETA"))]
    assert all(len(value) >= LEAST_LENGTH for value in values)
    assert len(set(values)) == 2


def test_filling_twice_changes_nothing() -> None:
    once, _ = fill(EXAMPLE, EXAMPLE, {})
    assert fill(once, EXAMPLE, {}) == (once, [])


def test_a_secret_that_was_left_out_is_added_and_the_rest_stays() -> None:
    text, filled = fill(f"SIZE=5\nALPHA_PASSWORD={STRONG}\n", EXAMPLE, {})
    assert filled == ["BETA_KEY"]
    assert text.startswith(f"SIZE=5\nALPHA_PASSWORD={STRONG}\n\nBETA_KEY=")


def test_a_real_environment_variable_wins() -> None:
    text, filled = fill(EXAMPLE, EXAMPLE, {"BETA_KEY": STRONG})
    assert filled == ["ALPHA_PASSWORD"]
    assert "BETA_KEY=\n" in text


@pytest.mark.parametrize(
    "value", ["changeme", "Change-Me", "password", "minioadmin", "your-secret", "<secret>", "xxxx"]
)
def test_a_placeholder_is_refused_by_name(value: str) -> None:
    with pytest.raises(PlaceholderError, match="ALPHA_PASSWORD is a placeholder"):
        fill(f"ALPHA_PASSWORD={value}\n", EXAMPLE, {})


def test_a_placeholder_in_the_environment_is_refused_too() -> None:
    with pytest.raises(PlaceholderError, match="BETA_KEY"):
        fill(EXAMPLE, EXAMPLE, {"BETA_KEY": "secret"})


def test_a_short_secret_is_refused() -> None:
    with pytest.raises(PlaceholderError, match="ALPHA_PASSWORD has less than 12 characters"):
        fill("ALPHA_PASSWORD=a8Jw2\n", EXAMPLE, {})


KEY = "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY"


def test_the_key_that_mlflow_encrypts_with_is_one_that_its_library_takes() -> None:
    text, filled = fill(f"{KEY}=\n", f"{KEY}=\n", {})
    assert filled == [KEY]
    key = text.strip().partition("=")[2]
    cipher = Fernet(key)
    assert cipher.decrypt(cipher.encrypt(b"secret")) == b"secret"
    assert fill(text, f"{KEY}=\n", {}) == (text, [])


@pytest.mark.parametrize("value", [STRONG, "k2J-8fhw_Q1x9d7Zk2J-8fhw_Q1x9d7Zk2J-8fhw_Q1", "é" * 44])
def test_any_other_text_in_its_place_is_refused(value: str) -> None:
    with pytest.raises(PlaceholderError, match="no key of 32 bytes"):
        fill(f"{KEY}={value}\n", f"{KEY}=\n", {})


def test_an_older_env_gets_the_secrets_that_are_new() -> None:
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    new = {KEY, "TRANSECT_WEBHOOK_SECRET"}
    assert new <= set(secret_names(example))
    old = "".join(f"{name}={STRONG}{number}\n" for number, name in enumerate(secret_names(example)) if name not in new)
    text, filled = fill(old, example, {})
    assert set(filled) == new
    assert text.startswith(old)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / ".env.example").write_text(EXAMPLE, encoding="utf-8")
    return tmp_path


def test_the_file_is_private_and_nothing_else_is_left_behind(folder: Path) -> None:
    assert empty_secrets(folder, {}) == ["ALPHA_PASSWORD", "BETA_KEY"]
    assert fill_file(folder, {}) == ["ALPHA_PASSWORD", "BETA_KEY"]
    assert stat.S_IMODE((folder / ".env").stat().st_mode) == 0o600
    assert sorted(path.name for path in folder.iterdir()) == [".env", ".env.example"]
    assert empty_secrets(folder, {}) == []


def test_an_open_file_becomes_private(folder: Path) -> None:
    written, _ = fill(EXAMPLE, EXAMPLE, {})
    (folder / ".env").write_text(written, encoding="utf-8")
    (folder / ".env").chmod(0o644)
    assert fill_file(folder, {}) == []
    assert stat.S_IMODE((folder / ".env").stat().st_mode) == 0o600


def test_a_refused_file_stays_as_it_was(folder: Path) -> None:
    (folder / ".env").write_text("ALPHA_PASSWORD=changeme\n", encoding="utf-8")
    with pytest.raises(PlaceholderError):
        fill_file(folder, {})
    assert (folder / ".env").read_text(encoding="utf-8") == "ALPHA_PASSWORD=changeme\n"
