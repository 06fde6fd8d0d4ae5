"""Mutation testing: changes the code in small ways, one at a time, and sees whether a unit test notices.

    .venv-mutants/bin/python tools/mutants.py [ROOM ...] [--sample N] [--seed N] [--survivors]

It runs in the environment of `make mutants`, which is why mutmut is imported late.

mutmut makes the changed copies (mutants) of a module's functions; this script gives it a copy of the tree below
build/mutants/ROOM, with only the test files that belong to the room, and prints how many were noticed. A change that
alters nothing that anybody can see is listed in tools/mutants_equivalent.toml, with the reason. The exit code is 1
where a mutant that is not listed there survives, and 2 where mutmut could not try them.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SCRATCH = ROOT / "build" / "mutants"
EQUIVALENT = Path(__file__).with_name("mutants_equivalent.toml")
# Of the tests of a room, those that look at it alone: others would notice much of the same, slowly.
ESTIMATES = tuple(
    f"unit/census/test_census_{name}.py"
    for name in ("breakdown", "correction", "difference", "estimate", "ground_alarms", "intervals", "rates")
)
PROMOTION = (
    "integration/test_registry_promote.py",
    "integration/test_registry_promotion_faults.py",
    "unit/registry/test_registry_promotion_report.py",
)
ROOMS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "nms": (("engine/boxes/nms.py", "engine/boxes/overlaps.py"), ("unit/engine/test_engine_nms.py",)),
    "stitch": (("engine/boxes/stitch.py",), ("unit/engine/test_engine_stitch.py",)),
    "matching": (("census/sightings/matching.py",), ("unit/census/test_census_matching.py",)),
    "estimates": (("census/estimates/*.py",), ESTIMATES),
    "gate": (("registry/promotion/gate.py",), ("unit/registry/test_registry_gate.py",)),
    "alias_lock": (("registry/promotion/alias_lock.py",), ("unit/registry/test_registry_alias_lock.py",)),
    "promotion": (
        tuple(f"registry/promotion/{name}.py" for name in ("comparison", "promote", "record", "report")),
        PROMOTION,
    ),
}
# What the tests read beside the modules; mutmut copies tests/ itself.
BESIDE = ("tests", "configs", "docker")
# A test that takes this many times longer than it does has been made endless by the mutant. The fork server runs no
# test before it forks: a process forked from one in which torch has threads would wait for them for ever.
# Hypothesis need not make a failing case small either, and the quick tests come first. torchvision, which a test
# imports late, is imported once in the fork server, and not for each mutant.
CONFTEST = """
import json
from pathlib import Path

import torchvision
from hypothesis import Phase, settings

settings.register_profile("mutants", deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate])


def pytest_collection_modifyitems(items):
    stats = Path("mutmut-stats.json")
    took = json.loads(stats.read_text())["duration_by_test"] if stats.is_file() else {}
    items.sort(key=lambda item: took.get(item.nodeid, 0))
"""
SETTINGS = """
[tool.mutmut]
source_paths = ["src"]
only_mutate = {modules}
also_copy = {beside}
pytest_add_cli_args = [
    "-p", "no:xdist", "-p", "no:cacheprovider", "-p", "no:unraisableexception", "-p", "no:threadexception",
    "--hypothesis-profile=mutants", "-o", "faulthandler_timeout=0",
]
pytest_add_cli_args_test_selection = {tests}
timeout_multiplier = 4.0
timeout_constant = 3.0
process_isolation = "forkserver"
use_git_change_detection = false
"""


@dataclass(frozen=True)
class Mutant:
    """One mutant: its module below services/transect, the lines it replaces, and what became of it."""

    name: str
    module: str
    change: str
    status: str

    @property
    def noticed(self) -> bool:
        """Whether a test failed, or did not end."""
        return self.status in {"killed", "timeout"}


def main() -> int:
    """Run the rooms asked for; print the survivors and a table of the scores."""
    arguments = _arguments()
    known = known_equivalent()
    lines, unknown = [], 0
    for room in arguments.rooms or ROOMS:
        stage(room)
        names = survivors(room) if arguments.survivors else sampled(room, arguments.sample, arguments.seed)
        if names == []:
            continue
        command = [str(Path(sys.executable).with_name("mutmut")), "run", "--max-children", "1", *(names or [])]
        done = subprocess.run(command, cwd=SCRATCH / room, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"})
        if done.returncode != 0:
            print(f"mutmut could not try the mutants of {room}; what it printed above says why.", file=sys.stderr)
            return 2
        found = results(room)
        fresh = [one for one in found if not one.noticed and (one.module, one.change) not in known]
        unknown += len(fresh)
        for one in fresh:
            print(f"\n{one.name}: {one.status}\n{one.change}")
        lines += table(found, known)
    print("\n| module | mutants | noticed | of them timed out | equivalent | survived |\n|---|---|---|---|---|---|")
    print("\n".join(lines))
    return min(unknown, 1)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Change the code one place at a time; see whether the tests notice.")
    parser.add_argument("rooms", nargs="*", metavar="ROOM", help=f"of {', '.join(ROOMS)}; all without one")
    parser.add_argument("--sample", type=int, default=0, help="try so many mutants of each room, drawn at random")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--survivors", action="store_true", help="try again what survived the last time")
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.rooms) - set(ROOMS)):
        parser.error(f"there is no room {', '.join(unknown)}; there are {', '.join(ROOMS)}")
    return arguments


def stage(room: str) -> None:
    """Bring the copy of the tree up to date: src, tests and configs, with mutmut's settings."""
    target = SCRATCH / room
    unwanted = shutil.ignore_patterns("__pycache__")
    for folder, copy in (("services/transect", "src/transect"), *((name, name) for name in BESIDE)):
        shutil.copytree(ROOT / folder, target / copy, dirs_exist_ok=True, ignore=unwanted)
    (target / "conftest.py").write_text(CONFTEST, encoding="utf-8")
    modules, tests = ROOMS[room]
    settings = SETTINGS.format(
        modules=json.dumps([f"src/transect/{module}" for module in modules]),
        tests=json.dumps([f"tests/{test}" for test in tests]),
        beside=json.dumps([*BESIDE[1:], "conftest.py"]),
    )
    (target / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text(encoding="utf-8") + settings)


def sampled(room: str, size: int, seed: int) -> list[str] | None:
    """The names of `size` mutants drawn at random; None for all."""
    if not size:
        return None
    from mutmut.mutation.file_mutation import mutate_file_contents
    from mutmut.utils.format_utils import get_mutant_name

    enter(room)
    names = []
    for path in sources(room):
        mutated = mutate_file_contents(str(path), path.read_text(encoding="utf-8"))
        names += [get_mutant_name(path, name) for name in mutated.mutant_names]
    return sorted(random.Random(seed).sample(sorted(names), min(size, len(names))))  # noqa: S311 - no secret


def sources(room: str) -> list[Path]:
    """The room's modules, relative to its copy of the tree."""
    at = SCRATCH / room
    return [path.relative_to(at) for module in ROOMS[room][0] for path in sorted((at / "src/transect").glob(module))]


def survivors(room: str) -> list[str]:
    """The names of those that survived the last time."""
    return [one.name for one in results(room) if not one.noticed]


def enter(room: str) -> None:
    """Work in the room's copy of the tree, with its settings."""
    from mutmut.configuration import reset_config

    os.chdir(SCRATCH / room)
    reset_config()


def results(room: str) -> list[Mutant]:
    """What became of each mutant of the room that was tried."""
    from mutmut.stats import status_by_exit_code

    enter(room)
    found = []
    for path in sources(room):
        meta = Path("mutants", f"{path}.meta")
        if not meta.is_file():
            continue
        for name, code in json.loads(meta.read_text(encoding="utf-8"))["exit_code_by_key"].items():
            if code is not None:
                status = status_by_exit_code[code]
                change = "" if status == "killed" else change_of(name, path)
                found.append(Mutant(name, str(path.relative_to("src/transect")), change, status))
    return found


def change_of(name: str, path: Path) -> str:
    """The lines that a mutant takes out (-) and puts in (+), without their indentation, after the function's name."""
    from mutmut.mutation.diff_apply import get_diff_for_mutant

    lines = [line for line in get_diff_for_mutant(name, path=path).splitlines()[2:] if line[0] in "+-"]
    function = name.rpartition(".")[2].partition("__mutmut_")[0].removeprefix("x_")
    return "\n".join([function, *(f"{line[0]} {line[1:].strip()}" for line in lines)])


def known_equivalent() -> set[tuple[str, str]]:
    """Module and change of each mutant that is listed as equivalent."""
    if not EQUIVALENT.is_file():
        return set()
    groups = tomllib.loads(EQUIVALENT.read_text(encoding="utf-8"))["equivalent"]
    return {(group["module"], change.strip()) for group in groups for change in group["changes"]}


def table(found: list[Mutant], known: set[tuple[str, str]]) -> list[str]:
    """A line of the table for each module."""
    lines = []
    for module in dict.fromkeys(one.module for one in found):
        mine = [one for one in found if one.module == module]
        late = sum(one.status == "timeout" for one in mine)
        noticed = sum(one.noticed for one in mine)
        same = sum(not one.noticed and (module, one.change) in known for one in mine)
        lines.append(f"| {module} | {len(mine)} | {noticed} | {late} | {same} | {len(mine) - noticed - same} |")
    return lines


if __name__ == "__main__":
    sys.exit(main())
