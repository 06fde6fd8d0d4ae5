import base64
import io
import re
import shutil
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from disputed_surveys import HOSTILE, ReviewedSurvey, review_painted
from transect.pages.numbers import count_text
from transect.review.outcome.record import review_record
from transect.review.outcome.report import REPORT, render_report, write_report
from transect.review.outcome.report_pictures import cut_out, missed, rejected
from transect.review.outcome.report_scores import scores_by_species
from transect.review.outcome.report_words import area_text, range_text, share_text, summary_sentence, work_text
from transect.review.verdicts.truth import Truth


@pytest.fixture(scope="module")
def reviewed(dot_package: Path, tmp_path_factory: pytest.TempPathFactory) -> ReviewedSurvey:
    return review_painted(tmp_path_factory.mktemp("reviewed"), dot_package)


@pytest.fixture(scope="module")
def truth(reviewed: ReviewedSurvey) -> Truth:
    return reviewed.truth(boxes=12, photos=8)


@pytest.fixture(scope="module")
def record(truth: Truth) -> dict[str, Any]:
    return review_record(truth)


@pytest.fixture(scope="module")
def html(reviewed: ReviewedSurvey, truth: Truth, record: dict[str, Any]) -> str:
    return render_report(truth, record, survey=reviewed.survey, max_pixels=None)


class _Text(HTMLParser):
    """The text of a page without its style, and every element."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.parts: list[str] = []
        self.tags: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        if self.tags[-1:] != ["style"]:
            self.parts.append(data)


def text_of(html: str) -> str:
    """What a reader sees, with plain spaces."""
    return re.sub(r"\s+", " ", "".join(_Text(html).parts))


def test_people_come_first_and_the_machine_beside_them(html: str, record: dict[str, Any]) -> None:
    sheep = record["species"][0]
    low, high = sheep["flown_ci95"]
    boxes, photos = record["reviewed"]["boxes"], record["reviewed"]["photos"]
    assert (
        f"{sheep['flown']:.0f} sheep on the flown ground (95% limits {low:.0f} to {high:.0f}), as far as 2 people "
        f"checked {boxes} boxes and {photos} photos in "
    ) in text_of(html)
    assert f"The machine alone says {sheep['machine']['single_look']:.0f}." in text_of(html)
    whole = sheep["strata"][-1]
    assert f"In the study area of 1.2 km²: {whole['estimate']:.0f} sheep" in text_of(html)
    assert "animals of all species on the flown ground" in text_of(html)
    assert "No total is known yet" not in html
    assert html.index("on the flown ground") < html.index("The machine alone says")


def test_each_part_of_the_total_is_shown(html: str, record: dict[str, Any]) -> None:
    text = text_of(html)
    found = sum(one["animals"] for one in record["bins"]) + sum(one["animals"] for one in record["groups"])
    assert found == pytest.approx(record["species"][-1]["flown"])
    headings = re.findall(r'<h2 id="(\w+)"', html)
    assert headings == [
        *("summary", "compared", "arises", "errors", "confusion", "pictures", "missed"),
        *("strata", "transects", "people", "method", "stands"),
    ]
    for reference in ("Cochran", "Zou", "Wilson", "Availability", record["review"]["id"], record["survey"]["digest"]):
        assert reference in text
    assert str(record["review"]["seed"]) in text
    assert "Cohen's kappa" in text
    assert "The table below says what the totals are if each is one" in text


def test_nothing_comes_from_outside_of_the_file(html: str) -> None:
    assert not {"script", "link", "iframe", "object"} & set(_Text(html).tags)
    sources = re.findall(r'(?:src|href)="([^"]*)"', html)
    assert sources
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
    assert not re.search(r"url\(|@import|https?:", html)


def test_names_of_strangers_are_only_text(html: str) -> None:
    assert HOSTILE not in html
    assert "b" not in _Text(html).tags
    assert f"{HOSTILE} on the flown ground" in text_of(html)
    assert f"rejected by {HOSTILE}" in text_of(html)


def test_equal_inputs_give_equal_bytes(
    reviewed: ReviewedSurvey, truth: Truth, record: dict[str, Any], html: str, tmp_path: Path
) -> None:
    write_report(tmp_path, truth, record, survey=reviewed.survey, max_pixels=None)
    assert (tmp_path / REPORT).read_text(encoding="utf-8") == html
    again = reviewed.truth(boxes=12, photos=8)
    assert render_report(again, review_record(again), survey=reviewed.survey, max_pixels=None) == html


def test_what_is_unknown_is_said_first_and_is_never_zero(reviewed: ReviewedSurvey) -> None:
    truth = reviewed.truth(boxes=1, photos=8)
    record = review_record(truth)
    html = render_report(truth, record, survey=reviewed.survey, max_pixels=None)
    text = text_of(html)
    assert record["species"][-1]["unknown"]
    assert text.index("No total is known yet.") < text.index("How many sheep are on the flown ground is not known yet")
    for phrase in record["species"][-1]["unknown"]:
        assert phrase in text
    assert "their number is not known: too little is checked." in text
    assert "0 sheep" not in text
    # The sums of the boxes and of the flown ground; that of the photos is known.
    assert len(re.findall(r'<tr class="sum">.*?not known.*?</tr>', html, re.DOTALL)) >= 2


def test_a_review_that_nobody_began_is_a_report_too(reviewed: ReviewedSurvey) -> None:
    truth = reviewed.truth(boxes=0, photos=0)
    html = render_report(truth, review_record(truth), survey=None, max_pixels=None)
    text = text_of(html)
    assert "as far as nobody checked" not in text
    assert "nobody has checked anything yet" in text
    assert "No photo was searched yet, so nobody knows what the machine missed." in text
    assert "No box was rejected." in text


def test_without_the_photos_each_frame_says_why(
    reviewed: ReviewedSurvey, truth: Truth, record: dict[str, Any], tmp_path: Path
) -> None:
    html = render_report(truth, record, survey=None, max_pixels=None)
    assert "<img" not in html
    assert "name the survey with --survey" in html
    assert "is not among the photos" in render_report(truth, record, survey=tmp_path, max_pixels=None)
    copy = tmp_path / "copy"
    shutil.copytree(reviewed.survey, copy)
    for path in (copy / "images").rglob("*.png"):
        Image.new("RGB", (192, 128)).save(path)
    changed = render_report(truth, record, survey=copy, max_pixels=None)
    assert "<img" not in changed
    assert "has changed since the census" in changed
    assert "No picture:" in render_report(truth, record, survey=reviewed.survey, max_pixels=10)


def test_pictures_are_of_what_people_rejected_and_added(reviewed: ReviewedSurvey, truth: Truth) -> None:
    wrong, new = rejected(truth), missed(truth)
    assert 0 < len(wrong) <= 20
    assert 0 < len(new) <= 20
    assert all("rejected by" in one.caption for one in wrong)
    # One animal of each photo before the second of any.
    photos = [one.photo for one in new]
    assert len(set(photos[: len(set(photos))])) == len(set(photos))
    pictures = cut_out(truth, [*wrong, *new], reviewed.survey, None)
    assert [one.caption for one in pictures] == [one.caption for one in [*wrong, *new]]
    for picture in pictures:
        with Image.open(io.BytesIO(base64.b64decode(picture.uri.partition(",")[2]))) as opened:
            assert opened.width == 260
            assert not opened.getexif()


def test_scores_end_at_the_precision_and_recall_of_the_census(truth: Truth, record: dict[str, Any]) -> None:
    told = {one["species"]: one for one in record["species"]}
    by_species = scores_by_species(truth)
    assert [name for name, _ in by_species] == ["sheep", HOSTILE, "cow"]
    for name, rows in by_species:
        last = [row for row in rows if row.bin.counted][-1]
        assert last.precision is not None
        assert last.recall is not None
        assert last.precision.value == pytest.approx(told[name]["precision"])
        assert last.recall.value == pytest.approx(told[name]["recall_as_called"])
        recalls = [row.recall.value for row in rows if row.recall]
        assert recalls == sorted(recalls)
        assert all(row.right is not None and row.animal is not None and row.right <= row.animal for row in rows)


def test_without_a_study_area_the_flown_ground_is_all(
    reviewed: ReviewedSurvey, truth: Truth, record: dict[str, Any]
) -> None:
    flown = {**record, "species": [{**one, "strata": []} for one in record["species"]], "transects": []}
    html = render_report(truth, flown, survey=reviewed.survey, max_pixels=None)
    assert "study area of" not in text_of(html)
    assert 'id="strata"' not in html
    assert 'id="transects"' not in html
    assert "sheep on the flown ground" in text_of(html)


def spent(*people: tuple[int, int, int, float | None]) -> dict[str, Any]:
    """A record of people, each as (boxes, photos, timed, minutes)."""
    rows = [
        {"reviewer": str(number), "boxes": boxes, "photos": photos, "timed": timed, "minutes": minutes}
        for number, (boxes, photos, timed, minutes) in enumerate(people)
    ]
    sums = {"boxes": sum(one[0] for one in people), "photos": sum(one[1] for one in people)}
    return {"reviewed": {"reviewers": rows, **sums}}


@pytest.mark.parametrize(
    ("people", "text"),
    [
        ((), "nobody has checked anything yet"),
        (((210, 60, 270, 64.2),), "1 person checked 210 boxes and 60 photos in 64 minutes"),
        (((1, 1, 2, 0.2),), "1 person checked 1 box and 1 photo in less than a minute"),
        (((5, 0, 0, None), (0, 2, 0, None)), "2 people checked 5 boxes and 2 photos"),
        (((5, 0, 3, 1.5),), "1 person checked 5 boxes and 0 photos in 2 minutes for 3 of 5 decisions and searches"),
    ],
)
def test_the_work_is_a_clause(people: tuple[tuple[int, int, int, float | None], ...], text: str) -> None:
    assert work_text(spent(*people)) == text


def species_row(**changed: Any) -> Mapping[str, Any]:
    machine = {"single_look": 96.0, "corrected": None, "estimate": 400.0, "ci95": (300.0, 520.0)}
    whole = {"stratum_km2": 60.0, "estimate": 1234.0, "ci95": (900.0, 1700.0), "note": ""}
    usual = {"species": "buffalo", "flown": 279.0, "flown_ci95": (250.2, 319.9), "seen": 120.5, "machine": machine}
    return {**usual, "strata": [whole], **changed}


def test_the_summary_is_a_sentence() -> None:
    work = spent((210, 60, 270, 64.2))
    one = summary_sentence(species_row(), work)
    assert one.head == "279 buffalo on the flown ground"
    assert one.tail == (
        "(95% limits 250 to 320), as far as 1 person checked 210 boxes and 60 photos in 64 minutes. The machine alone "
        "says 96."
    )
    assert one.area == (
        f"In the study area of 60 km²: {count_text(1234)} buffalo (95% limits 900 to {count_text(1700)}). The machine "
        "alone says 400 (300 to 520)."
    )
    other = summary_sentence(species_row(machine=None, strata=[]), work)
    assert other.tail.endswith("The machine does not report this species.")
    assert other.area == ""
    unknown = summary_sentence(species_row(flown=None, flown_ci95=None), work)
    assert unknown.head == "How many buffalo are on the flown ground is not known yet"
    assert unknown.tail.startswith("(people saw 120.5, as far as 1 person checked")
    fixed = {"single_look": 96.0, "corrected": 105.0, "estimate": None, "ci95": None}
    corrected = summary_sentence(species_row(machine=fixed), work)
    assert "The machine alone says 96, and 105 once corrected for its errors in validation." in corrected.tail


def test_numbers_as_words() -> None:
    assert [area_text(km2) for km2 in (1.2, 60.0, 1234.0, 0.117)] == [
        "1.2 km²",
        "60 km²",
        "1\u202f234 km²",
        "0.117 km²",
    ]
    assert [range_text(0.0, 0.35), range_text(2.0, None)] == ["0 to 0.35", "2 or more"]
    assert [share_text(None, None), share_text(0.917, 0.09)] == ["–", "91.7 ± 9.0\u202f%"]
