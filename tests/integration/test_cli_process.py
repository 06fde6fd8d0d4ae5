"""Commands that are forked behave as commands that are started in the ordinary way."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import cli_process


def started(folder: Path, *arguments: str) -> tuple[int, str, str]:
    """What `python -m transect` does in a process that imports everything itself."""
    command = [sys.executable, "-m", "transect", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment(folder), capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "TRANSECT_HOME": str(folder / "home"), "MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}


@pytest.mark.parametrize(
    "arguments", [["--version"], ["models", "list"], ["census", "run", "none"], ["train", "--data", "none.yaml"]]
)
def test_a_forked_command_answers_as_one_that_is_started(arguments: list[str], tmp_path: Path) -> None:
    done = cli_process.run(*arguments, cwd=tmp_path, env=environment(tmp_path))
    assert (done.returncode, done.stdout, done.stderr) == started(tmp_path, *arguments)


def test_each_command_has_its_own_environment_folder_mask_and_group(tmp_path: Path) -> None:
    (tmp_path / "asked.py").write_text(
        "import os, sys\n"
        "print(os.environ['ANSWER'], os.getcwd(), os.getpgid(0) == os.getpid(), len(os.environ), sys.argv[1:])\n"
        "sys.exit(7)\n"
    )
    for answer in ("one", "two"):
        env = {"ANSWER": answer}
        with cli_process.start(
            "a b", module="asked", cwd=tmp_path, env=env, stdout=subprocess.PIPE, new_session=True
        ) as process:
            told, _ = process.communicate(timeout=60)
        assert (process.returncode, told) == (7, f"{answer} {tmp_path} True 1 ['a b']\n")


def test_a_command_is_killed_and_its_signal_is_its_exit_code(tmp_path: Path) -> None:
    (tmp_path / "endless.py").write_text("import time\nprint('here', flush=True)\ntime.sleep(600)\n")
    for number, expected in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, -signal.SIGINT)):
        pipe = subprocess.PIPE
        with cli_process.start(module="endless", cwd=tmp_path, stdout=pipe, stderr=pipe) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "here\n"
            assert process.poll() is None
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(timeout=0.05)
            process.send_signal(number)
            assert process.wait(timeout=60) in (expected, 1)
        process.kill()


def test_no_file_may_pass_the_limit(tmp_path: Path) -> None:
    (tmp_path / "large.py").write_text("with open('large', 'wb') as file:\n    file.write(bytes(1000))\n")
    with cli_process.start(module="large", cwd=tmp_path, stderr=subprocess.PIPE, file_size_limit=100) as process:
        _, log = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "File too large" in log


def test_a_forked_command_has_the_libraries_and_nothing_that_reads_the_environment(tmp_path: Path) -> None:
    (tmp_path / "loaded.py").write_text("import sys\nprint('torch' in sys.modules, 'transect' in sys.modules)\n")
    assert cli_process.run(module="loaded", cwd=tmp_path).stdout == "True False\n"
