"""The report of a review as its reader sees it: a real browser without a network, a screen, a telephone, and paper."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from disputed_surveys import HOSTILE, review_painted
from report_pages import (
    assert_a_reader_without_eyes_finds_the_way,
    assert_every_picture_is_there,
    assert_nothing_is_wider,
    opened,
    print_on_a4,
)
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
    with opened(context, report) as shown:
        yield shown
    context.close()


def test_every_picture_is_there_and_names_are_only_text(page: Page) -> None:
    assert_every_picture_is_there(page)
    assert page.locator("b").count() == 0
    assert HOSTILE in page.locator("main").inner_text()


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_wider_than_the_screen(page: Page, width: int) -> None:
    assert_nothing_is_wider(page, width)


def test_a_reader_without_eyes_finds_the_way(page: Page) -> None:
    assert_a_reader_without_eyes_finds_the_way(page)


def test_it_prints_on_several_pages_of_a4(page: Page, tmp_path: Path) -> None:
    print_on_a4(page, tmp_path / "report.pdf")
