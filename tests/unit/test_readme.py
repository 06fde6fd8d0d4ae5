"""The commands and links in the README and the pages under docs/ exist."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from transect.cli import app

ROOT = Path(__file__).parents[2]
PAGES = (
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").glob("*.md")),
)


def commands(program: str) -> list[str]:
    """The lines of code blocks, and the code in sentences, that start with `program`."""
    found: set[str] = set()
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
        lines += re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
        found.update(line.split("#")[0].strip() for line in lines if re.match(rf"(\.venv/bin/)?{program} ", line))
    return sorted(found)


def test_the_two_commands_stand_alone() -> None:
    assert "```\nmake demo\nmake test\n```" in PAGES[0].read_text(encoding="utf-8")


@pytest.mark.parametrize("command", commands("make"))
def test_make_knows(command: str) -> None:
    # -n prints what would be done and does nothing.
    arguments = [word for word in shlex.split(command)[1:] if word != "..."]
    done = subprocess.run(["make", "-n", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", commands("transect"))
def test_transect_knows(command: str) -> None:
    words = shlex.split(command)[1:]
    names: list[str] = []
    group = app
    for word in words:
        known = {info.name for info in group.registered_groups}
        if word in known:
            names.append(word)
            group = next(info.typer_instance for info in group.registered_groups if info.name == word) or app
        else:
            names.append(word)
            break
    said = CliRunner().invoke(app, [*names, "--help"])
    assert said.exit_code == 0, said.output
    for option in (word for word in words if word.startswith("--")):
        assert option in said.output


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, by GitHub's rule."""
    found: set[str] = set()
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        slug = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        repeated = next(f"{slug}{end}" for end in ["", *(f"-{k}" for k in range(1, 99))] if f"{slug}{end}" not in found)
        found.add(repeated)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        there = page.parent / name if name else page
        assert there.exists(), f"{page.name} links to {target}"
        assert not anchor or there.suffix != ".md" or anchor in anchors(there), f"{page.name} links to {target}"
