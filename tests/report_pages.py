"""What every report must be to its reader: whole without a network, readable at each width, on paper, without eyes."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page


@contextmanager
def opened(context: BrowserContext, report: Path) -> Iterator[Page]:
    """The report, opened; fails where it asked for anything but itself or said anything on the console."""
    page = context.new_page()
    asked, complaints = list[str](), list[str]()
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(report.as_uri())
    yield page
    # Pictures inside the file count as requests of the scheme data.
    assert [url for url in asked if not url.startswith("data:image/jpeg;base64,")] == [report.as_uri()]
    assert complaints == []
    page.close()


def assert_every_picture_is_there(page: Page) -> None:
    widths = page.eval_on_selector_all("img", "all => all.map(one => [one.naturalWidth, one.alt])")
    assert len(widths) > 4
    assert all(width > 0 and alt for width, alt in widths)
    assert page.locator(".missing").count() == 0


def assert_nothing_is_wider(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    # What is cut off lies in a part that scrolls by itself.
    lost = page.evaluate(
        """() => [...document.querySelectorAll("main *, header *")].filter(one => !one.closest(".scroll, svg")
             && one.getBoundingClientRect().right > innerWidth + 1).map(one => one.outerHTML.slice(0, 80))"""
    )
    assert lost == []


def assert_a_reader_without_eyes_finds_the_way(page: Page) -> None:
    levels = page.eval_on_selector_all("h1, h2, h3, h4", "all => all.map(one => +one.tagName[1])")
    assert levels.count(1) == 1
    assert all(later - earlier <= 1 for earlier, later in pairwise(levels))
    named = "one => one.getAttribute('aria-label') || one.closest('[aria-hidden=true]') !== null"
    assert all(page.eval_on_selector_all("main svg:not(svg svg)", f"all => all.map({named})"))
    assert page.eval_on_selector_all("table", "all => all.every(one => one.querySelector('th[scope]'))")
    assert page.locator("html").get_attribute("lang") == "en"


def print_on_a4(page: Page, paper: Path) -> int:
    """Print the report, hold that it has several pages, each of A4, and return how many."""
    page.pdf(path=paper, prefer_css_page_size=True, print_background=True)
    content = paper.read_bytes()
    pages = len(re.findall(rb"/Type\s*/Page\b(?!s)", content))
    assert pages > 1
    sizes = {tuple(map(float, box.split())) for box in re.findall(rb"/MediaBox\s*\[([^\]]+)\]", content)}
    assert all(box[2:] == pytest.approx((595, 842), abs=1) for box in sizes)
    return pages
