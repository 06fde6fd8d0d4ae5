"""Builds the documentation as a site, from the README, docs/ and every file of the repository that they link to.

    python tools/docs_site.py

The site is build/docs/site; docs/zensical.toml configures it. A warning, a link or an anchor that leads nowhere, a page
of docs/ without a place in the navigation and anything that a browser would fetch from elsewhere are errors: the exit
code is 1.
"""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[1]
_LINK = re.compile(r"(?<=\]\()([^)\s#]+)((?:#[^)\s]*)?)(?=\))")
_CODE_BLOCK = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
# What a browser loads by itself; a link that a reader follows is not among it.
_LOADED = re.compile(r"""<(?:script|img|iframe|source)\b[^>]*\bsrc=["']?((?:https?:)?//[^"'\s>]+)|"""
                     r"""<link\b(?![^>]*rel=["']?canonical)[^>]*\bhref=["']?((?:https?:)?//[^"'\s>]+)""")  # fmt: skip


class SiteError(Exception):
    """Why there is no site, in one sentence."""


def main() -> int:
    """Build the site of this repository; print where it is, or why there is none."""
    try:
        site = build(ROOT, ROOT / "build" / "docs")
    except SiteError as error:
        print(f"docs: {error}", file=sys.stderr)
        return 1
    print(f"{site.relative_to(ROOT)}/index.html")
    return 0


def build(root: Path, target: Path) -> Path:
    """Build the site of the repository `root` in the folder `target`, which is replaced; returns the site's folder."""
    shutil.rmtree(target, ignore_errors=True)
    collect_pages(root, target / "pages")
    shutil.copy(root / "docs" / "zensical.toml", target)
    command = [str(Path(sys.executable).with_name("zensical")), "build", "--strict"]
    done = subprocess.run(command, cwd=target, capture_output=True, text=True, check=False)
    if done.returncode:
        # Its warnings stand before the traceback of its own exception.
        raise SiteError(_COLOUR.sub("", done.stdout + done.stderr).split("Traceback")[0].strip())
    site = target / "site"
    if fetched := sorted({address for page in site.rglob("*.html") for address in loaded_from_elsewhere(page)}):
        raise SiteError(f"the pages would load {', '.join(fetched)}; the site is to work without a network")
    return site


def collect_pages(root: Path, pages: Path) -> None:
    """Copy docs/, the pages of the navigation and every file that a page links to, at their paths in the repository.

    Source files and folders become pages, and the links to them are changed to those.
    """
    named = _pages_of(tomllib.loads((root / "docs" / "zensical.toml").read_text(encoding="utf-8"))["project"]["nav"])
    written = {path.relative_to(root).as_posix() for path in (root / "docs").rglob("*.md")}
    if unplaced := sorted(written - set(named)):
        raise SiteError(f"docs/zensical.toml has no place for {', '.join(unplaced)}; add a line to its nav")
    shutil.copytree(root / "docs", pages / "docs")
    waiting, done = list(named), set[str]()
    while waiting:
        name = waiting.pop()
        if name in done:
            continue
        done.add(name)
        text, linked = _page(root, name)
        waiting += linked
        if text is not None:
            place = pages / page_name(root, name)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text, encoding="utf-8")


def page_name(root: Path, name: str) -> str:
    """The path of the page for a file or folder of the repository; that of a picture or another file below docs/."""
    if (root / name).is_dir():
        return f"{name}/index.md"
    # The builder makes no page of a file whose name starts with a dot.
    shown = "/".join(part.removeprefix(".") for part in name.split("/"))
    return name if name.endswith(".md") or name.startswith("docs/") else f"{shown}.md"


def loaded_from_elsewhere(page: Path) -> set[str]:
    """The addresses of other hosts that a browser asks when it shows an HTML page."""
    return {first or second for first, second in _LOADED.findall(page.read_text(encoding="utf-8"))}


def _pages_of(nav: list[dict[str, object]]) -> list[str]:
    """The pages of a navigation, at every depth."""
    found: list[str] = []
    for entry in nav:
        for value in entry.values():
            found += _pages_of(value) if isinstance(value, list) else [str(value)]
    return found


def _page(root: Path, name: str) -> tuple[str | None, list[str]]:
    """The text of a page, and the paths that it links to; no text for what is copied with docs/ as it is."""
    source = root / name
    if source.is_dir():
        inside = sorted(path.name for path in source.iterdir() if not path.name.startswith(("_", ".")))
        lines = [f"- [{each}]({page_name(root / name, each)})" for each in inside]
        return "\n".join([f"# {name}", "", *lines, ""]), [f"{name}/{each}" for each in inside]
    if not name.endswith(".md"):
        if name.startswith("docs/"):
            return None, []
        return f"# {name}\n\n`````{source.suffix[1:]}\n{source.read_text(encoding='utf-8')}\n`````\n", []
    return _with_page_links(root, name)


def _with_page_links(root: Path, name: str) -> tuple[str, list[str]]:
    """A Markdown page whose links lead to the pages of this site, and the paths that it links to."""
    linked: list[str] = []

    def to_page(match: re.Match[str]) -> str:
        target, anchor = match.groups()
        if ":" in target:
            return match.group()
        path = os.path.normpath(PurePosixPath(name).parent / target)
        if path.startswith("..") or not (root / path).exists():
            raise SiteError(f"{name} links to {target}, which does not exist")
        linked.append(path)
        return os.path.relpath(page_name(root, path), PurePosixPath(name).parent) + anchor

    text = (root / name).read_text(encoding="utf-8")
    # Code stays as it is: `x[i](y)` is no link.
    parts, start = list[str](), 0
    for block in [*_CODE_BLOCK.finditer(text), None]:
        end = block.start() if block else len(text)
        parts += [_LINK.sub(to_page, text[start:end]), block.group() if block else ""]
        start = block.end() if block else end
    return "".join(parts), linked


if __name__ == "__main__":
    sys.exit(main())
