"""Variables reach the programs behind `make` as they were typed; nothing of them is expanded or run."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

from make_variables import EXPORTED_BY_MAKE

ROOT = Path(__file__).parents[2]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = re.search(r"^\.PHONY: ((?:.*\\\n)*.*)$", MAKEFILE, re.MULTILINE)
# Make, the shell, and what splits into words have each their own signs; whatever is run leaves a file.
HOSTILE = (
    "a  $(shell touch RAN) ${HOME} $HOME $100 $$ #b \\#c \"d\" 'e' `touch RAN`; touch RAN & $(touch RAN) | %"
    "\nsecond line\\\n %s ~ *  "
)
ARGS = (
    f'--plain {shlex.quote(HOSTILE)} "in \' quotes" back\\ slash $(touch\tRAN) `touch` ;touch RAN #more $100 *\n--last'
)
WORDS = shlex.split(ARGS)
# Each target that takes a variable: the option before its value, or how a word holds it.
TAKES: dict[str, dict[str, str]] = {
    "train": {"MODEL": "--model", "CONFIG": "--config", "DATA": "--data", "EPOCHS": "epochs={}", "ARGS": ""},
    "sweep": {"MODEL": "--model", "CONFIG": "--config", "DATA": "--data", "EPOCHS": "epochs={}", "ARGS": ""},
    "reproduce": {"RUN": "{}", "DATA": "--data", "ARGS": ""},
    "promote": {"DATA": "--data", "REASON": "--reason", "ARGS": ""},
    "rollback": {"REASON": "--reason"},
    "census": {"SURVEY": "run", "OUT": "--out", "MODEL": "--model", "CONFIG": "--config", "ARGS": ""},
    "bench-census": {"FRAMES": "--frames", "MODEL": "--package", "ARGS": ""},
    "bench-serve": {"SECONDS": "--seconds", "ARGS": ""},
    "bench-overload": {"SECONDS": "--seconds", "ARGS": ""},
    "bench-unique": {"SEEDS": "--seeds", "ARGS": ""},
    "bench-accuracy": {"SEEDS": "--seeds", "MODEL": "--package", "ARGS": ""},
    "bench-review-real": {"SEEDS": "--seeds", "MODEL": "--package", "ARGS": ""},
    "bench-transfer": {"SEEDS": "--seeds", "FRAMES": "--frames", "LINE": "--only", "MODEL": "--package", "ARGS": ""},
    "bench-tracking": {"ROUNDS": "--rounds", "ARGS": ""},
    "bench-gpu-file": {"FILE": "--bundle", "ARGS": ""},
    "ui": {"PORT": "--port", "STORE": "{}/mlflow.db"},
    **{
        f"bench{name}": {"ARGS": ""}
        for name in (
            "",
            "-swap",
            "-intervals",
            "-factor",
            "-ground",
            "-differences",
            "-review",
            "-review-scale",
            "-scale",
            "-gpu",
        )
    },
    **{
        name: {"ARGS": ""}
        for name in (
            "demo",
            "test",
            "test-integration",
            "test-containers",
            "test-all",
            "test-cpus",
            "mutants",
            "lock",
            "up",
            "logs",
            "sample",
            "starter",
        )
    },
}
IN_THE_STACK = ("train", "sweep", "reproduce", "promote", "rollback", "census")
VARIABLES = sorted({name for taken in TAKES.values() for name in taken} - {"ARGS"})
_RECORDS = '#!/bin/sh\n{ printf "%s\\0" "$0" "$@"; printf "\\1\\0"; } >> RECORD\n'
_DOCKER = """\
case "$*" in
*"config --format json"*)
    echo '{"services": {"trainer": {"image": "a"}, "census": {"image": "b"}, "minio": {"image": "c"}}}' ;;
*"--status running"*) [ -e stack-is-down ] || echo mlflow ;;
*volume\\ inspect*|*compose\\ port*) exit 1 ;;
*) echo 1 ;;
esac
"""


@dataclass(frozen=True)
class Made:
    """What one call of make did: its output and the command lines of the programs that it started."""

    status: int
    output: str
    calls: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Place:
    """A copy of the project in which every program but Python's own is a stand-in that writes down its arguments."""

    folder: Path

    def make(
        self, target: str, given: dict[str, str], *, by_environment: bool = False, more: Sequence[str] = ()
    ) -> Made:
        """Run `make target` with variables `given`."""
        (self.folder / "RECORD").unlink(missing_ok=True)
        environment = {
            "PATH": f"{self.folder / 'programs'}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(self.folder),
            **(given if by_environment else {}),
        }
        typed = [] if by_environment else [f"{name}={value}" for name, value in given.items()]
        done = subprocess.run(
            ["make", *more, target, *typed],
            cwd=self.folder,
            env=environment,
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )
        record = self.folder / "RECORD"
        written = record.read_text(encoding="utf-8").split("\0\1\0")[:-1] if record.is_file() else []
        calls = tuple(tuple(call.split("\0")) for call in written)
        return Made(done.returncode, done.stdout + done.stderr, calls)

    def ran(self) -> list[Path]:
        """Files that a value has made by being run."""
        return list(self.folder.rglob("RAN"))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("Makefile", ".env.example", "compose.yaml", "compose.gpu.yaml"):
        shutil.copy(ROOT / name, folder / name)
    for name in ("docker/stack", "tools"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "services" / "transect").mkdir(parents=True)
    for name in ("__init__.py", "__init__.pyi", "redaction.py"):
        shutil.copy(ROOT / "services" / "transect" / name, folder / "services" / "transect" / name)
    for name in ("tests", "benchmarks", "requirements", "surveys"):
        (folder / name).mkdir()
    for name in ("build", "dev", "bench", "detector-cuda", "mutation", "referees"):
        (folder / "requirements" / f"{name}.txt").touch()
    (folder / "pyproject.toml").touch()
    survey = folder / "surveys" / HOSTILE
    survey.mkdir()
    (survey / "survey.yaml").touch()
    (folder / HOSTILE).write_text("names: [a]\n", encoding="utf-8")
    folder.chmod(0o755)
    _program(folder / "programs" / "docker", _RECORDS + _DOCKER)
    _program(folder / HOSTILE.replace("a", "python", 1) / "python", f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    for venv in (".venv", ".venv-bench", ".venv-gpu", ".venv-mutants", ".venv-referees"):
        for name in ("python", "transect", "pytest", "uv", "ruff", "mypy", "lint-imports"):
            _program(folder / venv / "bin" / name, _RECORDS)
        (folder / venv / ".installed").touch()
    return Place(folder)


def _program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)


def _given(place: Place, runtime: str = "local") -> dict[str, str]:
    """Every variable with a hostile value, those that name files with that of one."""
    return {
        **dict.fromkeys(VARIABLES, HOSTILE),
        "SURVEY": f"surveys/{HOSTILE}",
        "OUT": f"results/{HOSTILE}",
        "PYTHON": str(place.folder / HOSTILE.replace("a", "python", 1) / "python"),
        "ARGS": ARGS,
        "RUNTIME": runtime,
        "GPU": HOSTILE,
        "ANOTHER": HOSTILE,
    }


def _expected(place: Place, target: str, given: dict[str, str], runtime: str) -> list[tuple[str, ...]]:
    """What stands side by side in the command line of the program behind a target."""
    found: list[tuple[str, ...]] = []
    for name, shape in TAKES.get(target, {}).items():
        value = given[name]
        if name in ("EPOCHS", "RUN"):
            value = value.strip()
        mounted = name in ("OUT", "DATA", "CONFIG") or (name == "MODEL" and target != "census")
        if name == "SURVEY" or (runtime == "stack" and mounted):
            value = str(place.folder / value)
        if name != "ARGS":
            found.append((shape.format(value),) if "{}" in shape else (shape, value))
    return found


def _work(made: Made) -> list[tuple[str, ...]]:
    """The calls that do the work, without those that ask Docker how things are."""
    asks = ("config", "ps", "info", "version", "inspect", "port", "build")
    return [
        call for call in made.calls if not (call[0].endswith("docker") and ("run" not in call and {*call} & {*asks}))
    ]


def _has_words(call: Sequence[str]) -> bool:
    return any(list(call[start : start + len(WORDS)]) == WORDS for start in range(len(call)))


def test_each_target_that_takes_a_variable_is_in_the_table() -> None:
    assert TARGETS is not None
    recipes = re.findall(r"^([a-z-]+):.*\n((?:\t.*\n)*)", MAKEFILE, re.MULTILINE)
    taking = {name for name, recipe in recipes if re.search(r"WITH_ARGS|\$\$\{", recipe.split("AS_PIP")[0])}
    stack = {name for name, recipe in recipes if "$(STACK)" in recipe} - {"observe", "sync", "models"}
    assert taking | stack == set(TAKES)
    assert set(TAKES) < set(TARGETS[1].replace("\\\n", "").split())


def test_no_recipe_lets_make_or_the_shell_read_a_variable() -> None:
    names = "|".join({*VARIABLES, *EXPORTED_BY_MAKE, "PYTHON"})
    assert not re.findall(rf"\$[({{](?:{names})[)}}]", MAKEFILE)


@pytest.mark.parametrize("by_environment", [False, True], ids=["command-line", "environment"])
@pytest.mark.parametrize("target", sorted(TAKES))
def test_a_target_passes_on_what_was_typed(place: Place, target: str, by_environment: bool) -> None:
    given = _given(place)
    made = place.make(target, given, by_environment=by_environment)
    assert not place.ran()
    assert made.status == 0, made.output
    work = _work(made)
    for pair in _expected(place, target, given, "local"):
        assert any(pair in [(word,) for word in call] + list(pairwise(call)) for call in work), (pair, work)
    if "ARGS" in TAKES[target]:
        assert any(_has_words(call) for call in work), work


@pytest.mark.parametrize("target", IN_THE_STACK)
def test_the_containers_get_what_was_typed(place: Place, target: str) -> None:
    given = _given(place, "stack")
    made = place.make(target, given)
    assert not place.ran()
    assert made.status == 0, made.output
    (call,) = _work(made)
    for pair in _expected(place, target, given, "stack"):
        assert pair in [(word,) for word in call] + list(pairwise(call)), (pair, call)
    if "ARGS" in TAKES[target]:
        assert _has_words(call)


def test_a_target_that_takes_none_runs_none(place: Place) -> None:
    assert TARGETS is not None
    for target in {*TARGETS[1].replace("\\\n", "").split()} - {*TAKES}:
        made = place.make(target, _given(place), more=["--always-make"] if target == "setup" else [])
        assert not place.ran(), target
        assert made.status == 0, made.output
    for venv in (".venv-bench", ".venv-gpu"):
        (place.folder / venv / ".installed").touch()


@pytest.mark.parametrize("rehearse", [False, True])
def test_the_rehearsal_is_found_without_reading_the_rest(place: Place, rehearse: bool) -> None:
    made = place.make("bench-gpu", {"ARGS": f"{ARGS} {'--rehearse' if rehearse else ''}"}, by_environment=True)
    assert not place.ran()
    (call,) = made.calls
    assert call[0] == (".venv/bin/python" if rehearse else ".venv-gpu/bin/python")


def test_the_reason_of_a_promotion_keeps_its_dollars(place: Place) -> None:
    (call,) = _work(place.make("promote", {"REASON": "saves $100 a day", "RUNTIME": "local"}))
    assert call[1:] == ("models", "promote", "--reason", "saves $100 a day")


@pytest.mark.parametrize("target", ["demo", "train", "up"])
def test_an_open_quote_is_one_sentence(place: Place, target: str) -> None:
    made = place.make(target, {"ARGS": "name=don't", "RUNTIME": "local"})
    assert made.status == 2
    assert "transect: ARGS=name=don't ends within quotes" in made.output
    assert "Traceback" not in made.output


def test_an_unknown_runtime_is_said_as_it_was_typed(place: Place) -> None:
    made = place.make("train", {"RUNTIME": "$(shell touch RAN) `x`"})
    assert not place.ran()
    assert "transect: RUNTIME=$(shell touch RAN) `x` is not one of auto, stack, local." in made.output
