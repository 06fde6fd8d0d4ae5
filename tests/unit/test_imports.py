"""The rules about who may import whom, as pyproject.toml states them, and about how large a room may be."""

import ast
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "services" / "transect"
MOST_MODULES, MOST_LINES = 12, 400

Graph = Mapping[str, set[str]]


def test_imports_run_one_way() -> None:
    # In a process of its own: import-linter's logging settings turn off every logger that exists.
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def modules_below(package: Path) -> dict[str, Path]:
    """Each module by its dotted name; a folder's own module has the name of the folder."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports_of(name: str, path: Path, known: Mapping[str, Path]) -> Iterator[str]:
    """The modules of the package that a module imports anywhere, inside functions too."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            origin = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{origin}.{alias.name}"
                if inner in known or origin in known:
                    yield inner if inner in known else origin


def circles(graph: Graph) -> list[list[str]]:
    """Groups that import one another (strongly connected components of more than one, by Tarjan's algorithm)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(graph.get(node, ())):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1:
                found.append(sorted(group))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return found


def graphs(package: Path) -> dict[str, Graph]:
    """The imports among all modules, and for each folder those among what lies in it; a folder's own module is its
    face, which imports what is below it, and counts for nobody."""
    modules = modules_below(package)
    faces = {name for name, path in modules.items() if path.name == "__init__.py"}
    edges = {
        name: {other for other in imports_of(name, path, modules) if other != name}
        for name, path in modules.items()
        if name not in faces
    }
    found: dict[str, Graph] = {"all modules": {name: others - faces for name, others in edges.items()}}
    for face in sorted(faces):
        depth = face.count(".") + 1
        inside: defaultdict[str, set[str]] = defaultdict(set)
        for name, others in edges.items():
            for other in others:
                if name.startswith(f"{face}.") and other.startswith(f"{face}."):
                    here, there = name.split(".")[depth], other.split(".")[depth]
                    if here != there:
                        inside[here].add(there)
        found[face] = inside
    return found


def test_no_import_runs_in_a_circle_at_any_level() -> None:
    found = {name: circles(graph) for name, graph in graphs(PACKAGE).items()}
    assert {name: groups for name, groups in found.items() if groups} == {}


def test_a_circle_would_be_seen(tmp_path: Path) -> None:
    package = tmp_path / "p"
    for name, text in {
        "__init__": "",
        "a/__init__": "",
        "a/x": "def late():\n    from p.b import y\n",
        "b/__init__": "",
        "b/y": "from ..a import z\n",
        "a/z": "",
        "c": "import p.a.x\n",
    }.items():
        path = package / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    found = {name: circles(graph) for name, graph in graphs(package).items()}
    # No two modules import each other, and two folders do.
    assert found["all modules"] == []
    assert found["p"] == [["a", "b"]]


@pytest.mark.parametrize("folder", sorted({path.parent for path in PACKAGE.rglob("*.py")}), ids=lambda path: path.name)
def test_a_folder_is_looked_through_at_once(folder: Path) -> None:
    names: Sequence[str] = [path.stem for path in folder.glob("*.py") if path.name != "__init__.py"]
    assert len(names) <= MOST_MODULES, names
    for name in names:
        lines = (folder / f"{name}.py").read_text(encoding="utf-8").count("\n")
        assert lines <= MOST_LINES, f"{folder / name}.py has {lines} lines"
