"""The report of a review as its reader sees it: a real browser without a network, a screen, a telephone, and paper."""

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from disputed_surveys import HOSTILE, review_painted
from transect.review.outcome.record import review_record
from transect.review.outcome.report import REPORT, write_report


@pytest.fixture(scope="module", params=[12, 1], ids=["known", "unknown"])
def report(request: pytest.FixtureRequest, dot_package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a review with enough boxes in each bin, and of one with a single box."""
    folder = tmp_path_factory.mktemp("review")
    reviewed = review_painted(folder, dot_package)
    truth = reviewed.truth(boxes=request.param, photos=8)
    write_report(folder, truth, review_record(truth), survey=reviewed.survey, max_pixels=None)
    return folder / REPORT


@pytest.fixture
def page(browser: Browser, report: Path) -> Iterator[Page]:
    """The report, opened; fails where it asked for anything but itself or said anything on the console."""
    context = browser.new_context(offline=True, viewport={"width": 1280, "height": 900})
    opened = context.new_page()
    asked, complaints = list[str](), list[str]()
    opened.on("request", lambda request: asked.append(request.url))
    opened.on("console", lambda message: complaints.append(message.text))
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.goto(report.as_uri())
    yield opened
    # Pictures inside the file count as requests of the scheme data.
    assert [url for url in asked if not url.startswith("data:image/jpeg;base64,")] == [report.as_uri()]
    assert complaints == []
    context.close()


def test_every_picture_is_there_and_names_are_only_text(page: Page) -> None:
    widths = page.eval_on_selector_all("img", "all => all.map(one => [one.naturalWidth, one.alt])")
    assert len(widths) > 4
    assert all(width > 0 and alt for width, alt in widths)
    assert page.locator(".missing").count() == 0
    assert page.locator("b").count() == 0
    assert HOSTILE in page.locator("main").inner_text()


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_wider_than_the_screen(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    # What is cut off lies in a part that scrolls by itself.
    lost = page.evaluate(
        """() => [...document.querySelectorAll("main *, header *")].filter(one => !one.closest(".scroll, svg")
             && one.getBoundingClientRect().right > innerWidth + 1).map(one => one.outerHTML.slice(0, 80))"""
    )
    assert lost == []


def test_a_reader_without_eyes_finds_the_way(page: Page) -> None:
    levels = page.eval_on_selector_all("h1, h2, h3, h4", "all => all.map(one => +one.tagName[1])")
    assert levels.count(1) == 1
    assert all(later - earlier <= 1 for earlier, later in pairwise(levels))
    named = "one => one.getAttribute('aria-label') || one.closest('[aria-hidden=true]') !== null"
    assert all(page.eval_on_selector_all("main svg:not(svg svg)", f"all => all.map({named})"))
    assert page.eval_on_selector_all("table", "all => all.every(one => one.querySelector('th[scope]'))")
    assert page.locator("html").get_attribute("lang") == "en"


def test_it_prints_on_several_pages_of_a4(page: Page, tmp_path: Path) -> None:
    paper = tmp_path / "report.pdf"
    page.pdf(path=paper, prefer_css_page_size=True, print_background=True)
    content = paper.read_bytes()
    assert len(re.findall(rb"/Type\s*/Page\b(?!s)", content)) > 1
    sizes = {tuple(map(float, box.split())) for box in re.findall(rb"/MediaBox\s*\[([^\]]+)\]", content)}
    assert all(box[2:] == pytest.approx((595, 842), abs=1) for box in sizes)
