"""What looks like a secret is in nothing that is published; everything else stays as it was."""

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from transect.redaction import (
    command_without_secrets,
    data_yaml_without_secrets,
    diff_without_secrets,
    has_secret,
    is_secret_file,
    without_secret,
    without_secrets,
)

# One of each kind; `CANARY` or the token itself must not be left.
TEXTS = [
    "https://user:CANARY@example.org/x.git",
    "https://CANARY@example.org/x.git",
    "postgresql://u:CAN@RY/CANARY@db:5432/mlflow",
    "s3 https://example.org/a.zip?X-Amz-Signature=CANARY&b=1",
    "https://example.org/a.zip?token=CANARY",
    "password: CANARY",
    "password: CANARY*with*stars",
    "password = 'CANARY with blanks'",
    'MLFLOW_TRACKING_PASSWORD="CANARY"',
    "export AWS_SECRET_ACCESS_KEY=CANARY/+x",
    "{'api_key': 'CANARY'}",
    '"apiToken": "CANARY",',
    "Authorization: Bearer CANARY",
    "db.passwd=CANARY",
    "machine --password CANARY --x",
    "--api-token=CANARY",
    "x" * 100 + "_password=CANARY",
    "-----BEGIN OPENSSH PRIVATE KEY-----\nCANARY\n-----END OPENSSH PRIVATE KEY-----",
]
TOKENS = [
    "AKIA" + "IOSFODNN7EXAMPLE",
    "ghp_" + "a1B2" * 9,
    "github_pat_" + "A1b2" * 10,
    "glpat-" + "a1B2" * 5,
    "xoxb-" + "1234567890-abcdef",
    "sk_live_" + "a1B2" * 6,
    "AIza" + "a1B2c3D" * 5,
    "hf_" + "aBcD" * 8,
    "sk-" + "ant-a1B2" * 4,
    "pypi-" + "AgEI" * 8,
    "npm_" + "a1B2" * 9,
    "eyJ" + "hbGciOiJIUzI1NiJ9" + ".eyJ" + "zdWIiOiIxMjM0In0" + ".c2lnbmF0dXJl",
    "AGE-SECRET-KEY-1" + "QPZRY9X8" * 6,
]
HARMLESS = [
    "saves $100 a day",
    "http://mlflow:5000/#/experiments/1",
    "https://example.org/@user/photo",
    "http://127.0.0.1:8000/x@2x.png",
    "tiktoken==0.7.0",
    "passengers: 12",
    "tokenizer = build(tokenizer)",
    "password: str = Field(",
    "token = secrets.token_urlsafe(24)",
    "POSTGRES_PASSWORD: ${POSTGRES_PASSWORD:?run make up}",
    "a commit 0123456789abcdef0123456789abcdef01234567",
    "sha256:" + "0123456789abcdef" * 4,
    "compass=north-east",
    "epochs=5 lr0=0.01",
]


@pytest.mark.parametrize("text", TEXTS)
def test_a_secret_is_replaced_and_its_name_stays(text: str) -> None:
    cleaned = without_secrets(text)
    assert "CANARY" not in cleaned
    assert "REDACTED" in cleaned
    assert has_secret(text)
    assert without_secrets(cleaned) == cleaned


@pytest.mark.parametrize("token", TOKENS)
def test_a_token_is_known_by_its_form(token: str) -> None:
    assert without_secrets(f"see {token}, or ({token})") == "see REDACTED, or (REDACTED)"
    assert has_secret(f"+    x = read('{token}')\n")


@pytest.mark.parametrize("text", HARMLESS)
def test_other_text_stays(text: str) -> None:
    assert without_secrets(text) == text


def test_a_url_keeps_its_place() -> None:
    assert without_secrets("git clone https://u:CANARY@example.org:8443/a/b.git now") == (
        "git clone https://REDACTED@example.org:8443/a/b.git now"
    )


def test_json_and_yaml_stay_what_they_are() -> None:
    assert json.loads(without_secrets(json.dumps({"token": "CANARY", "a": "x"}))) == {"token": "REDACTED", "a": "x"}
    assert yaml.safe_load(without_secrets("token: CANARY\na: https://u:p@h\n")) == {
        "token": "REDACTED",
        "a": "https://REDACTED@h",
    }


def test_a_value_goes_by_its_name() -> None:
    assert without_secret("api_token", "abc") == "REDACTED"
    assert without_secret("config/db_password", "abc") == "REDACTED"
    assert without_secret("api_token", "") == ""
    assert without_secret("epochs", "5") == "5"
    assert without_secret("data", "https://u:CANARY@h/x") == "https://REDACTED@h/x"


def test_a_command_line_keeps_all_but_its_secrets() -> None:
    command = ["transect", "train", "--password", "CANARY", "--token=CANARY", "+tags.api_key=CANARY", "epochs=5"]
    command += ["--data", "https://u:CANARY@h/data.yaml", "a b", "--token", "--data"]
    assert command_without_secrets(command) == (
        "transect train --password REDACTED --token=REDACTED +tags.api_key=REDACTED epochs=5 --data "
        "https://REDACTED@h/data.yaml 'a b' --token --data"
    )


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("train: a\ndownload: https://h/x.zip?CANARY\nval: b\n", "train: a\ndownload: left out by Transect\nval: b\n"),
        (
            "train: a\ndownload: |\n  import os\n\n  CANARY()\nval: b\n",
            "train: a\ndownload: left out by Transect\nval: b\n",
        ),
        ("download:\n- CANARY\nval: b", "download: left out by Transect\nval: b"),
        ("'download' : CANARY", "'download': left out by Transect"),
        ("{train: a, download: 'CANARY, x', val: b}", "{train: a, download: left out by Transect, val: b}"),
        ("train: a\nval: b\nnames: [x]\n", "train: a\nval: b\nnames: [x]\n"),
    ],
)
def test_a_data_yaml_is_published_without_its_download(text: str, left: str) -> None:
    assert data_yaml_without_secrets(text) == left


@pytest.mark.parametrize(
    "path",
    [
        *(".env", ".env.prod", "deploy/.env.local", "prod.env", ".env.d/a", "keys/server.pem", "a.key", "b.P12"),
        *(
            ".ssh/config",
            "id_rsa",
            "id_ed25519.pub",
            ".netrc",
            ".pgpass",
            "secrets.yaml",
            "credentials",
            "credentials.json",
        ),
    ],
)
def test_files_of_secrets_are_known_by_name(path: str) -> None:
    assert is_secret_file(path)


@pytest.mark.parametrize("path", ["services/transect/settings.py", "environment.md", "keyboard.py", "monkey.jpg"])
def test_other_files_are_not(path: str) -> None:
    assert not is_secret_file(path)


def git(folder: Path, *arguments: str) -> bytes:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True).stdout


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    (folder / "keys").mkdir(parents=True)
    lines = "".join(f"line {number}\n" for number in range(60))
    for name in (".env.prod", "keys/server.pem", "code.py", "whole.py", "a b.env", "moved.key"):
        (folder / name).write_text(lines)
    (folder / "mixed.bin").write_bytes(bytes(range(256)) * 4)
    (folder / "hidden.bin").write_bytes(bytes(range(256)) * 4)
    git(folder, "init")
    git(folder, "add", ".")
    git(folder, "commit", "-m", "a")
    return folder


def test_a_diff_has_comments_for_omissions_and_the_rest_can_be_applied(repository: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", str(repository), "copy")
    for name in (".env.prod", "keys/server.pem", "a b.env"):
        (repository / name).write_text("CANARY\n")
    git(repository, "mv", "moved.key", "harmless.txt")
    (repository / "harmless.txt").write_text((repository / "harmless.txt").read_text() + "CANARY\n")
    lines = (repository / "code.py").read_text().splitlines(keepends=True)
    lines[2], lines[30], lines[55] = "first\n", "password = 'CANARY'\n", "last\n"
    (repository / "code.py").write_text("".join(lines))
    (repository / "whole.py").write_text("x = '" + TOKENS[1] + "'\n")
    # The middle of a key, without its first line.
    (repository / "part.txt").write_text(("aB3/" * 16 + "\n") * 30)
    (repository / "newkey.txt").write_text("-----BEGIN RSA PRIVATE KEY-----\nCANARY\n")
    (repository / "mixed.bin").write_bytes(bytes(range(256)) * 5)
    (repository / "hidden.bin").write_bytes(bytes(range(256)) * 4 + b"\0password=CANARY\0" + bytes(range(99)))
    (repository / "wide.txt").write_bytes("password=CANARY\n".encode("utf-16"))
    git(repository, "add", "--all")
    patch = git(repository, "diff", "--binary", "HEAD").decode(errors="surrogateescape")
    cleaned = diff_without_secrets(patch)
    assert "CANARY" not in cleaned
    assert TOKENS[1] not in cleaned
    assert "aB3/aB3/" not in cleaned
    told = [line for line in cleaned.splitlines() if line.startswith("# left out: ")]
    assert "# left out: .env.prod, which holds secrets by its name" in told
    assert "# left out: keys/server.pem, which holds secrets by its name" in told
    assert "# left out: a b.env, which holds secrets by its name" in told
    assert "# left out: harmless.txt, which holds secrets by its name" in told
    assert any(line.startswith("# left out: a part of code.py (@@ -28,7 +28,7 @@)") for line in told)
    assert len(told) == 10
    (tmp_path / "patch").write_bytes(cleaned.encode(errors="surrogateescape"))
    git(tmp_path / "copy", "apply", str(tmp_path / "patch"))
    changed = (tmp_path / "copy" / "code.py").read_text().splitlines()
    assert (changed[2], changed[30], changed[55]) == ("first", "line 30", "last")
    assert (tmp_path / "copy" / "mixed.bin").read_bytes() == bytes(range(256)) * 5


def test_a_diff_without_secrets_stays_as_it_is(repository: Path) -> None:
    (repository / "code.py").write_text("a = 1\n")
    (repository / "mixed.bin").write_bytes(b"\0new")
    patch = git(repository, "diff", "--binary", "HEAD").decode(errors="surrogateescape")
    assert patch.count("diff --git") == 2
    assert diff_without_secrets(patch) == patch
