"""Query Docker, Compose and the environment; run programs."""

import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from fill_env import assignments

ROOT = Path(__file__).resolve().parents[2]
ACCELERATORS = ("cpu", "cuda")
GPU_FILE = "compose.gpu.yaml"
# The line of GPU_FILE that TRANSECT_GPUS replaces.
EVERY_GPU = "count: all"
# As `nvidia-smi -L` lists them: an index, or the UUID of a GPU or of a MIG instance.
_UUID = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_GPU = re.compile(rf"0|[1-9][0-9]*|(GPU|MIG)-{_UUID}", re.ASCII)


class StackError(Exception):
    """A failure, as one sentence with advice."""


def value(name: str, default: str = "") -> str:
    """A variable that make passes on, as it was typed; blank means the default."""
    typed = os.environ.get(name, "")
    return typed if typed.strip() else default


def word(name: str, default: str = "") -> str:
    """A variable that make passes on and that is one word or number, stripped."""
    return value(name, default).strip()


def words(name: str) -> list[str]:
    """The words of a variable that make passes on; quotes and backslashes count as in a shell, nothing is expanded.

    Raises StackError for an open quote.
    """
    try:
        return shlex.split(value(name))
    except ValueError as error:
        raise StackError(
            f"{name}={value(name)} ends within quotes or after a backslash; close the quotes, or write \\' and \\\\."
        ) from error


def setting(name: str, default: str) -> str:
    """A variable as Compose sees it: from the environment, else from .env."""
    file = ROOT / ".env"
    text = os.environ.get(name) or (assignments(file.read_text(encoding="utf-8")) if file.is_file() else {}).get(name)
    return text or default


def accelerator() -> str:
    """The accelerator of the detector and the census: cuda with GPU=1, or with ACCELERATOR=cuda in .env."""
    chosen = "cuda" if word("GPU") in ("1", "true", "yes") else setting("ACCELERATOR", "cpu")
    if chosen not in ACCELERATORS:
        raise StackError(f"ACCELERATOR={chosen} is not one of {', '.join(ACCELERATORS)}.")
    return chosen


def named_gpus() -> tuple[str, ...]:
    """The GPUs of TRANSECT_GPUS; empty means all of this machine.

    Raises StackError for an item that nvidia-smi would not list, an empty or duplicate one, and if
    CUDA_VISIBLE_DEVICES is set too.
    """
    text = setting("TRANSECT_GPUS", "").strip()
    if not text:
        return ()
    gpus = tuple(item.strip() for item in text.split(","))
    for place, gpu in enumerate(gpus):
        if not gpu:
            raise StackError(f"TRANSECT_GPUS={text} has an empty item; put one comma between two GPUs, as in 0,2.")
        if not _GPU.fullmatch(gpu):
            raise StackError(f"TRANSECT_GPUS={text}: {gpu} is no index or UUID of a GPU; `nvidia-smi -L` lists them.")
        if gpu in gpus[:place]:
            raise StackError(f"TRANSECT_GPUS={text} names {gpu} twice; name each GPU once.")
    if setting("CUDA_VISIBLE_DEVICES", ""):
        # Its indices would refer to the remaining GPUs, so the same index would mean another GPU.
        raise StackError("TRANSECT_GPUS and CUDA_VISIBLE_DEVICES both choose GPUs; set one of them only.")
    return gpus


def gpu_file() -> str:
    """The Compose file that reserves GPUs: compose.gpu.yaml, or a copy of it for those that TRANSECT_GPUS names.

    Compose's variables cannot be lists, and a list in another file adds devices to `count: all` instead of
    replacing it. The copy's name depends on the choice, since commands with different ones may run
    concurrently.
    """
    gpus = named_gpus()
    if not gpus:
        return GPU_FILE
    text = (ROOT / GPU_FILE).read_text(encoding="utf-8")
    if text.count(EVERY_GPU) != 1:
        raise StackError(
            f"TRANSECT_GPUS replaces the line `{EVERY_GPU}` of {GPU_FILE}, which must be there once; put it back."
        )
    text = text.replace(EVERY_GPU, f"device_ids: {json.dumps(gpus)}")
    written = f"runs/stack/gpus-{hashlib.sha256(text.encode()).hexdigest()[:12]}.yaml"
    target = ROOT / written
    if not target.is_file():
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary = target.with_suffix(f".{os.getpid()}")
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(target)
        except OSError as error:
            raise StackError(
                f"TRANSECT_GPUS needs a file in {target.parent}, which cannot be written ({error.strerror}); "
                "make it writable for you."
            ) from error
    return written


def compose(*arguments: str) -> list[str]:
    """The command line of `docker compose`, with the GPUs of this machine if requested."""
    command = ["docker", "compose"]
    if accelerator() == "cuda":
        command += ["--file", "compose.yaml", "--file", gpu_file()]
        # Compose reads this one by default only if no file is named.
        if (ROOT / "compose.override.yaml").is_file():
            command += ["--file", "compose.override.yaml"]
    return [*command, *arguments]


def option(name: str, text: str) -> list[str]:
    """An option for a command line; empty if the value is empty."""
    return [name, text] if text else []


def run(command: Sequence[str]) -> int:
    """Run a program with our standard streams; returns its exit status."""
    sys.stdout.flush()
    return subprocess.run(command, check=False).returncode


def replace_by(command: Sequence[str]) -> NoReturn:
    """Replace this process by the program (exec), which then gets signals and sets the exit status."""
    sys.stdout.flush()
    os.execvp(command[0], list(command))  # noqa: S606 - an argument list, no shell


def output_of(command: Sequence[str]) -> str | None:
    """The output of a program; None if it fails or does not exist."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def need_docker() -> None:
    """Raise StackError if Docker or Compose is not available."""
    if output_of(["docker", "info", "--format", "{{.ServerVersion}}"]) is None:
        raise StackError("no Docker engine answers; start it, or use `make demo`, which needs none.")
    if output_of(["docker", "compose", "version"]) is None:
        raise StackError("Docker has no Compose v2; install the docker-compose plugin.")


def project() -> str:
    """The name of the Compose project."""
    return os.environ.get("COMPOSE_PROJECT_NAME") or "transect"


def volume_exists(name: str) -> bool:
    """Whether the project has this named volume."""
    return output_of(["docker", "volume", "inspect", f"{project()}_{name}"]) is not None


def image_exists(name: str) -> bool:
    """Whether the engine has this image."""
    return output_of(["docker", "image", "inspect", name]) is not None


def compose_value(service: str, key: str) -> str:
    """A value of a service's configuration, with .env interpolated."""
    config = output_of(compose("--profile", "*", "config", "--format", "json"))
    if config is None:
        raise StackError("compose.yaml or .env cannot be read; `docker compose config` says why.")
    return str(json.loads(config)["services"][service][key])


def address(service: str, port: int) -> str | None:
    """The address of a service on this machine; None if it is not running."""
    found = output_of(compose("port", service, str(port)))
    return f"http://{found}" if found else None
