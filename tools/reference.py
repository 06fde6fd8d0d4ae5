"""Writes the reference pages that follow from the code: the Python API, the command line, the HTTP API, package.json.

    python tools/reference.py

tests/unit/test_reference.py holds the pages to the code, so that a change of an interface is seen in a review.
"""

import ast
import inspect
import json
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import typer

ROOT = Path(__file__).resolve().parents[1]
API, CLI = Path("docs/api.md"), Path("docs/cli.md")
OPENAPI, PACKAGE = Path("docs/openapi.json"), Path("docs/package.schema.json")


def main() -> None:
    """Write all pages."""
    for path, text in pages().items():
        (ROOT / path).write_text(text, encoding="utf-8")


def pages() -> dict[Path, str]:
    """Each page's path below the repository, and its text."""
    from fastapi import FastAPI

    from transect.engine import PackageManifest
    from transect.serving.app import create_app
    from transect.settings import load_settings

    app: FastAPI = create_app(load_settings({}, None))
    try:
        openapi = app.openapi()
    finally:
        app.state.service.stop()
    return {
        API: python_page(),
        CLI: command_page(),
        OPENAPI: _json(openapi),
        PACKAGE: _json(PackageManifest.model_json_schema()),
    }


def python_page() -> str:
    """The public functions with their docstrings, and the classes that they return with their methods."""
    import transect
    from transect.census import CensusConfig, CensusResult
    from transect.engine import Detector
    from transect.registry import Registry

    lines = [
        "# Python API",
        "",
        "`import transect` gives these functions; nothing heavy is imported before one is called. The types that they "
        "return follow. Printed by `make reference`.",
    ]
    for name in transect.__all__:
        value = getattr(transect, name)
        if callable(value):
            lines += [
                "",
                f"## transect.{name}",
                "",
                *_code(f"{name}{_signature(value)}"),
                "",
                inspect.getdoc(value) or "",
            ]
    for kind in (Detector, Registry, CensusConfig, CensusResult):
        lines += ["", f"## {kind.__name__}", "", f"`{kind.__module__}.{kind.__name__}`", "", inspect.getdoc(kind) or ""]
        methods = list(_methods(kind))
        if methods:
            lines += ["", "| method | what it does |", "|---|---|"]
            lines += [f"| `{name}{_parameters(method)}` | {_first(method)} |" for name, method in methods]
    return "\n".join(lines) + "\n"


def command_page() -> str:
    """Every command with its arguments and options."""
    from transect.cli import app

    lines = ["# Command line", "", "Each command of `transect`. Printed by `make reference`."]
    for words, command in _commands(("transect",), typer.main.get_command(app)):
        lines += ["", f"## {' '.join(words)}", "", (command.help or "").strip()]
        rows = [_parameter(one) for one in command.params if getattr(one, "hidden", False) is False]
        if rows:
            lines += ["", "| parameter | default | what it is |", "|---|---|---|", *rows]
    return "\n".join(lines) + "\n"


def _commands(words: tuple[str, ...], command: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield words, command
    for name, inner in sorted(getattr(command, "commands", {}).items()):
        yield from _commands((*words, name), inner)


def _parameter(one: Any) -> str:
    names = ", ".join([*one.opts, *one.secondary_opts]) if one.param_type_name == "option" else one.name.upper()
    default = "required" if one.required else "" if one.default in (None, "", False) else f"`{one.default}`"
    text = " ".join((one.help or "").split())
    return f"| `{names}` | {default} | {text.replace('|', chr(92) + '|')} |"


def _methods(kind: type) -> Iterator[tuple[str, Callable[..., Any]]]:
    for name, value in vars(kind).items():
        function = value.__func__ if isinstance(value, (classmethod, staticmethod)) else value
        if inspect.isfunction(function) and not name.startswith(("_", "model_")):
            yield name, function


def _signature(function: Callable[..., Any]) -> str:
    """Parameters and result as the source has them."""
    node = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    if not isinstance(node, ast.FunctionDef):
        raise TypeError(f"{function} is no function")
    result = "" if node.returns is None else f" -> {_annotation(node.returns)}"
    for one in [*node.args.args, *node.args.kwonlyargs]:
        if one.annotation is not None:
            one.annotation = ast.Name(_annotation(one.annotation))
    return f"({ast.unparse(node.args)}){result}"


def _annotation(node: ast.expr) -> str:
    return str(node.value) if isinstance(node, ast.Constant) else ast.unparse(node)


def _parameters(function: Callable[..., Any]) -> str:
    names = [name for name in inspect.signature(function).parameters if name not in {"self", "cls"}]
    return f"({', '.join(names)})"


def _first(function: Callable[..., Any]) -> str:
    return " ".join((inspect.getdoc(function) or "").split("\n\n")[0].split()).replace("|", "\\|")


def _code(text: str) -> list[str]:
    return ["```python", text, "```"]


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    main()
