"""Make targets that use the Compose stack. Standard library only: it runs before anything is installed.

usage: python3 docker/stack up | observe | train | sweep | reproduce | sync | promote | rollback | census | models

Arguments come as environment variables from make: MODEL, DATA, DATA_ALSO, EPOCHS, CONFIG, ARGS, RUN, SURVEY, REASON,
GPU.
RUNTIME selects where the work runs: stack (containers), local (.venv with the embedded store), or auto,
which is the stack if one of its services is running.
"""

import itertools
import json
import os
import re
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from compose import (
    ROOT,
    StackError,
    address,
    compose,
    compose_value,
    image_exists,
    need_docker,
    option,
    output_of,
    project,
    replace_by,
    run,
    setting,
    value,
    volume_exists,
    word,
    words,
)
from fill_env import PlaceholderError, empty_secrets, fill_file
from mounts import Mounts, census_home, censuses_wait
from provenance_env import provenance_options

OWN_MINIO = "transect-minio:local"
IMAGE_USER = 10001
SWAP_WITHIN_S = 180
# Names of a census' run folders.
_RUN = re.compile("[0-9a-f]{12}")


def main(command: str) -> int:
    """Run one command and return its exit status."""
    commands = {
        "up": up,
        "observe": observe,
        "train": train,
        "sweep": sweep,
        "reproduce": reproduce,
        "sync": sync,
        "promote": promote,
        "rollback": rollback,
        "census": census,
        "models": models,
    }
    try:
        return commands[command]()
    except (StackError, PlaceholderError) as error:
        print(f"transect: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


# --- the stack itself ---------------------------------------------------------------------------


def up() -> int:
    """Write .env, build, start, wait until all services are healthy, and print their addresses."""
    write_secrets()
    if (status := build_services()) != 0:
        raise StackError(f"an image could not be built (exit {status}); the lines above say why.")
    # ARGS="--scale detector=2" runs replicas.
    start("--remove-orphans", *words("ARGS"))
    mlflow, detector = address("mlflow", 5000), address("detector", 8000)
    print(f"MLflow    {mlflow}  (user admin; its password is MLFLOW_AUTH_ADMIN_PASSWORD in .env)")
    print(f"Detector  {detector}  (what it serves: {detector}/v1/model)")
    print("Next: make train MODEL=yolo11n, then make promote, then make census SURVEY=surveys/NAME.")
    return 0


def observe() -> int:
    """Start Prometheus and Grafana beside the stack, and print their addresses."""
    write_secrets()
    start("prometheus", "grafana")
    print(f"Prometheus  {address('prometheus', 9090)}  (alerts: {address('prometheus', 9090)}/alerts)")
    print(f"Grafana     {address('grafana', 3000)}  (user admin; its password is GRAFANA_ADMIN_PASSWORD in .env)")
    if address("detector", 8000) is None:
        print("The detector is not running, so there is nothing to see yet; start it with make up.")
    return 0


def write_secrets() -> None:
    """Prepare .env, unless the database was created with another one."""
    need_docker()
    if "POSTGRES_PASSWORD" in empty_secrets(ROOT, os.environ) and volume_exists("postgres"):
        raise StackError(
            f"the database in volume {project()}_postgres was made with another .env; put that file back, "
            "or give the data up with `docker compose --profile '*' down --volumes` after copying .env.example to .env."
        )
    if made := fill_file(ROOT, os.environ):
        print(f"Wrote {len(made)} random secrets into .env (readable by you alone).")


def start(*arguments: str) -> None:
    """Start services (default: all), and wait until they are healthy."""
    status = run(compose("up", "--detach", "--wait", "--wait-timeout", "600", *arguments))
    if status != 0:
        show_failure()
        raise StackError("the stack did not come up healthy; the lines above say which service and why.")


def build_services() -> int:
    """Build the images of `up`; a custom object store image is pulled instead."""
    minio = os.environ.get("MINIO_IMAGE") or compose_value("minio", "image")
    services = ["mlflow", "detector"]
    if minio == OWN_MINIO:
        services.insert(0, "minio")
    elif not image_exists(minio) and run(["docker", "pull", minio]) != 0:
        raise StackError(f"MINIO_IMAGE={minio} cannot be pulled; check the name, or leave it out to build ours.")
    return run(compose("build", *services))


def show_failure() -> None:
    """Print the state of all services, and the last log lines of unhealthy ones."""
    run(compose("ps", "--all"))
    for service in (output_of(compose("--profile", "*", "config", "--services")) or "").split():
        state = output_of(compose("ps", "--all", "--format", "{{.State}} {{.Health}} {{.ExitCode}}", service)) or ""
        if state and not re.match(r"running (healthy )?0|exited +0", state):
            run(compose("logs", "--tail", "25", service))


# --- work in the stack or locally ----------------------------------------------------------------


def train() -> NoReturn:
    """Train, register, set the alias candidate; ARGS=--resume resumes an interrupted run."""
    train_or_sweep("train", value("CONFIG", "configs/train/wildlife.yaml"))


def sweep() -> NoReturn:
    """Search for the best settings; the best training becomes the candidate."""
    train_or_sweep("sweep", value("CONFIG", "configs/sweep/wildlife.yaml"))


def train_or_sweep(command: str, config: str) -> NoReturn:
    """Replace this process by `transect COMMAND` on the training set DATA, which is remembered for a promotion."""
    model, data = value("MODEL"), value("DATA")
    overrides = [f"epochs={word('EPOCHS')}"] if word("EPOCHS") else []
    overrides += words("ARGS")
    if runtime() == "local":
        options = option("--model", model) + option("--config", config) + option("--data", data)
        replace_by([*local_transect(), command, *options, *overrides])
    mounts = Mounts()
    options = option("--model", mounts.file(model)) + option("--config", mounts.file(config))
    if data:
        options += option("--data", mounts.dataset(Path(data), words("DATA_ALSO")))
        mounts.remember()
    build_once("trainer")
    replace_by(compose_run("trainer", mounts, [command, *options, *overrides]))


def reproduce() -> NoReturn:
    """Repeat a training, and compare."""
    if not word("RUN"):
        raise StackError("say which run: make reproduce RUN=ID")
    data, arguments = value("DATA"), [word("RUN"), *words("ARGS")]
    if runtime() == "local":
        replace_by([*local_transect(), "runs", "reproduce", *option("--data", data), *arguments])
    mounts = Mounts.remembered()
    options = option("--data", mounts.dataset(Path(data), words("DATA_ALSO")) if data else "")
    build_once("trainer")
    replace_by(compose_run("trainer", mounts, ["runs", "reproduce", *options, *arguments]))


def sync() -> int:
    """Deliver what trainings, and censuses of the calling user, logged while MLflow was unavailable."""
    command = ["runs", "sync"]
    if runtime() == "local":
        replace_by([*local_transect(), *command])
    build_once("trainer")
    status = run(compose_run("trainer", Mounts(), command))
    user = caller()
    if censuses_wait(user):
        home = census_home(user)
        # The trainer's account sees no census.
        mounts = Mounts()
        mounts.add(home, writable=True, as_caller=True)
        build_once("census")
        environment = {"TRANSECT_HOME": str(home)}
        status = run(compose_run("census", mounts, command, user=user, environment=environment)) or status
    return status


def promote() -> int:
    """Promote the candidate through the gate; wait until the detector serves the production version."""
    data, arguments = value("DATA"), [*option("--reason", value("REASON")), *words("ARGS")]
    if runtime() == "local":
        replace_by([*local_transect(), "models", "promote", *option("--data", data), *arguments])
    mounts = Mounts.remembered()
    options = option("--data", mounts.dataset(Path(data), words("DATA_ALSO")) if data else "")
    build_once("trainer")
    status = run(compose_run("trainer", mounts, ["models", "promote", *options, *arguments]))
    return status or wait_for_detector()


def rollback() -> int:
    """Make the previous version production again, and wait until the detector serves it."""
    command = ["models", "rollback", *option("--reason", value("REASON"))]
    if runtime() == "local":
        replace_by([*local_transect(), *command])
    build_once("trainer")
    status = run(compose_run("trainer", Mounts(), command))
    return status or wait_for_detector()


def models() -> NoReturn:
    """List the registered versions."""
    if runtime() == "local":
        replace_by([*local_transect(), "models", "list"])
    replace_by(compose_run("trainer", Mounts(), ["models", "list"]))


def census() -> NoReturn:
    """Count a survey; results/NAME belongs to the calling user."""
    if not value("SURVEY"):
        raise StackError("say which survey: make census SURVEY=surveys/NAME")
    survey = Path(value("SURVEY")).resolve()
    if not (survey / "survey.yaml").is_file():
        raise StackError(f"{value('SURVEY')} is no survey folder: there is no survey.yaml in it.")
    arguments = option("--model", value("MODEL")) + words("ARGS")
    results = Path(value("OUT", f"results/{survey.name}"))
    if runtime() == "local":
        command = [
            "census",
            "run",
            str(survey),
            "--out",
            str(results),
            *option("--config", value("CONFIG")),
            *arguments,
        ]
        replace_by([*local_transect(), *command])
    results.mkdir(parents=True, exist_ok=True)
    user = writer(results)
    as_caller = user == f"{os.getuid()}:{os.getgid()}"
    mounts = Mounts()
    mounts.add(survey, as_caller=as_caller)
    mounts.add(results.resolve(), writable=True, as_caller=True)
    arguments += option("--config", mounts.file(value("CONFIG")))
    # /tmp ends with the container, and with it what MLflow lacks and TensorRT's engines, each built in minutes.
    home = census_home(user)
    mounts.add(home, writable=True, as_caller=True)
    environment = {"TRANSECT_HOME": str(home)}
    if elevations := setting("TRANSECT_DEM_PATH", ""):
        folder = Path(elevations).resolve()
        if not folder.is_dir():
            raise StackError(f"TRANSECT_DEM_PATH={elevations} is no folder; name the one that holds elevation models.")
        mounts.add(folder, as_caller=as_caller)
        environment["TRANSECT_DEM_PATH"] = str(folder)
    build_once("census")
    command = ["census", "run", str(survey), "--out", str(results.resolve()), *arguments]
    replace_by(compose_run("census", mounts, command, user=user, environment=environment))


def wait_for_detector() -> int:
    """Trigger a refresh of the detector, and wait until it serves the version of the alias."""
    base = address("detector", 8000)
    if base is None:
        print("The detector is not running; it serves the production version after the next make up.")
        return 0
    deadline = time.monotonic() + SWAP_WITHIN_S
    reason = "it did not respond"
    while time.monotonic() < deadline:
        try:
            request = urllib.request.Request(  # noqa: S310 - our own address
                f"{base}/v1/model/refresh", method="POST", headers=token_header()
            )
            with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
                state = json.load(response)
                done = response.status == 200
        except (OSError, ValueError) as error:
            reason = str(error)
        else:
            following = state["following"]
            if done and state["ready"] and not following["last_error"] and not following["refused"]:
                print(f"The detector at {base} serves {state['name']} version {state['version']}.")
                return 0
            refused = [f"version {item['version']} refused: {item['reason']}" for item in following["refused"]]
            reason = following["last_error"] or "; ".join(refused) or "it is still loading"
        time.sleep(1)
    raise StackError(f"the detector did not take the version over within {SWAP_WITHIN_S} s: {reason}.")


def token_header() -> dict[str, str]:
    """The Authorization header for the detector's refresh; empty if .env has no token."""
    token = setting("TRANSECT_TOKENS", "").split(",")[0].strip()
    return {"Authorization": f"Bearer {token}"} if token else {}


def compose_run(
    service: str, mounts: Mounts, command: Sequence[str], user: str = "", environment: Mapping[str, str] | None = None
) -> list[str]:
    """The command line of a one-shot container that runs `transect COMMAND`."""
    options = ["--rm", "--no-deps"]
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        options.append("--no-TTY")
    if user:
        options += ["--user", user]
    for name, text in (environment or {}).items():
        options += ["--env", f"{name}={text}"]
    options += provenance_options(compose_value(service, "image"))
    return compose("run", *options, *mounts.arguments(), service, "transect", *command)


def build_once(service: str) -> None:
    """Build the image of a one-shot service; quietly if there is an older one, since that takes seconds."""
    image = compose_value(service, "image")
    quiet = ["--quiet"] if image_exists(image) else []
    if not quiet:
        print(f"Building {image}; the first time takes minutes.", flush=True)
    if run(compose("build", *quiet, service)) != 0:
        raise StackError(f"{image} could not be built; the lines above say why.")


def writer(results: Path) -> str:
    """The user that writes the results, as `caller`; root gives a census' files to that user.

    Raises StackError if root names a folder with other files, which must not change their owner.
    """
    user = caller()
    if os.getuid() == 0:
        uid, gid = (int(number) for number in user.split(":"))
        for path in results_of_a_census(results):
            os.chown(path, uid, gid, follow_symlinks=False)
    return user


def caller() -> str:
    """The user of a census (UID:GID): who calls make, with sudo the original user, and for root the image's user."""
    uid, gid = os.getuid(), os.getgid()
    if uid == 0 and "SUDO_UID" in os.environ:
        uid, gid = int(os.environ["SUDO_UID"]), int(os.environ["SUDO_GID"])
    elif uid == 0:
        uid = gid = IMAGE_USER
    return f"{uid}:{gid}"


def results_of_a_census(results: Path) -> list[Path]:
    """The folder and all files of a census in it; only the folder if it is empty."""
    if any(results.iterdir()) and not (results / ".lock").is_file():
        raise StackError(
            f"OUT={results} holds other files than results of a census, and as root all of it would be given to "
            "another user; name an empty folder, or run make as the user who owns it."
        )
    own = [path for path in results.iterdir() if path.name in (".lock", "work") or _RUN.fullmatch(path.name)]
    below = [Path(folder, name) for path in own for folder, *names in os.walk(path) for name in itertools.chain(*names)]
    return [results, *own, *below]


def runtime() -> str:
    """The runtime of the work, which is also printed in one line."""
    wanted = word("RUNTIME", "auto")
    if wanted not in ("auto", "stack", "local"):
        raise StackError(f"RUNTIME={wanted} is not one of auto, stack, local.")
    running = wanted != "local" and stack_is_running()
    if wanted == "stack" and not running:
        raise StackError("the stack is not running; start it with make up, or say RUNTIME=local.")
    if running:
        print("Running in the stack (RUNTIME=local would use .venv and the embedded store).", flush=True)
        return "stack"
    print("Running locally with .venv and the embedded store (make up starts the stack).", flush=True)
    return "local"


def stack_is_running() -> bool:
    """Whether any service of the stack is up: a training does not need MLflow to start, and connects to it later."""
    return bool((output_of(compose("ps", "--services", "--status", "running")) or "").split())


def local_transect() -> list[str]:
    """The command of .venv, which is created if missing."""
    if run(["make", "--silent", "--directory", str(ROOT), "setup"]) != 0:
        raise StackError("make setup failed; the lines above say why.")
    return [str(ROOT / ".venv" / "bin" / "transect")]


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(main(sys.argv[1]))
