"""Transect: train wildlife detectors, track every run, serve the best one, count animals.

The names in __init__.pyi are the public API (docs/api.md). They are imported when they are first used: `import
transect` stays light, since MLflow's client alone takes seconds.
"""

import ast
import os
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

__version__ = "0.1.0"

# Disable telemetry. MLflow and ONNX Runtime read these when they are imported, and one of them then stores a user id in
# the home directory, so they must be set before any module of ours imports them.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def lazy_names(package: str, file: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """`__getattr__`, `__dir__` and `__all__` of a package that imports a name when it is first used (PEP 562).

    The one list of the names is __init__.pyi beside `file`: type checkers read their types there, and this function
    reads their modules. (The library lazy-loader does the same; these lines need no dependency.)
    """
    stub = ast.parse(Path(file).with_suffix(".pyi").read_text(encoding="utf-8")).body
    imports = [node for node in stub if isinstance(node, ast.ImportFrom)]
    module_of = {alias.name: node.module or "" for node in imports for alias in node.names}
    own = {node.target.id for node in stub if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)}
    names, space = sorted({*module_of, *own} - {"__all__"}), vars(sys.modules[package])

    def find(name: str) -> Any:
        """A public name, from the module that holds it."""
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        space[name] = getattr(import_module(module_of[name]), name)
        return space[name]

    def listed() -> list[str]:
        """All names, also those that are not imported yet, for completion in a notebook."""
        return sorted({*space, *names})

    return find, listed, names


__getattr__, __dir__, __all__ = lazy_names(__name__, __file__)
