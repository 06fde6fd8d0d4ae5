"""The documentation as a site: its pages, its links, and that nothing is fetched from elsewhere."""

from pathlib import Path

import docs_site
import pytest

ROOT = Path(__file__).parents[2]
CONFIG = """
[project]
site_name = "Toy"
docs_dir = "pages"
site_dir = "site"
use_directory_urls = false
nav = [{ "Start" = "README.md" }, { "Pages" = [{ "One" = "docs/one.md" }] }]
"""


def repository(folder: Path, *, readme: str = "# Toy\n\nSee [one](docs/one.md#second).\n", font: str = "false") -> Path:
    docs = folder / "docs"
    docs.mkdir(parents=True)
    (folder / "README.md").write_text(readme, encoding="utf-8")
    one = "# One\n\n## Second\n\n[setting](../configs/a.toml), [all](../configs)\n\n```\n[no](link.md)\n```\n"
    (docs / "one.md").write_text(one, encoding="utf-8")
    (docs / "zensical.toml").write_text(f"{CONFIG}\n[project.theme]\nfont = {font}\n", encoding="utf-8")
    (folder / "configs").mkdir()
    (folder / "configs" / "a.toml").write_text("speed = 3\n", encoding="utf-8")
    return folder


def test_the_pages_of_this_repository_build(tmp_path: Path) -> None:
    site = docs_site.build(ROOT, tmp_path)
    pages = {page.relative_to(site).as_posix() for page in site.rglob("*.html")}
    assert {f"docs/{page.stem}.html" for page in (ROOT / "docs").glob("*.md")} < pages
    assert {"index.html", "CONTRIBUTING.html", "examples/index.html", "configs/census.yaml.html"} < pages


def test_files_of_the_repository_become_pages(tmp_path: Path) -> None:
    pages = tmp_path / "pages"
    docs_site.collect_pages(repository(tmp_path / "toy"), pages)
    one = (pages / "docs" / "one.md").read_text(encoding="utf-8")
    assert "[setting](../configs/a.toml.md), [all](../configs/index.md)" in one
    assert "[no](link.md)" in one, "code is no link"
    assert "speed = 3" in (pages / "configs" / "a.toml.md").read_text(encoding="utf-8")
    assert "[a.toml](a.toml.md)" in (pages / "configs" / "index.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("readme", "reason"),
    [
        ("# Toy\n\n[one](docs/one.md#third)\n", "anchor"),
        ("# Toy\n\n[two](docs/two.md)\n", "README.md links to docs/two.md, which does not exist"),
        ("# Toy\n\n[out](../there.md)\n", "README.md links to ../there.md, which does not exist"),
        ('# Toy\n\n<img src="https://example.org/a.png">\n', "would load https://example.org/a.png"),
    ],
)
def test_what_leads_nowhere_is_an_error(readme: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(docs_site.SiteError, match=reason):
        docs_site.build(repository(tmp_path / "toy", readme=readme), tmp_path / "built")


def test_fonts_from_elsewhere_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(docs_site.SiteError, match=r"would load https://fonts\."):
        docs_site.build(repository(tmp_path / "toy", font='{ text = "Inter" }'), tmp_path / "built")


def test_a_page_without_a_place_is_an_error(tmp_path: Path) -> None:
    root = repository(tmp_path / "toy")
    (root / "docs" / "lost.md").write_text("# Lost\n", encoding="utf-8")
    with pytest.raises(docs_site.SiteError, match=r"no place for docs/lost\.md"):
        docs_site.build(root, tmp_path / "built")
