import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shapely.geometry import box

from observation_builders import frame, observations
from transect.census.applicability.checks import Check
from transect.census.applicability.state import Applicability
from transect.census.counting.tally import tally, with_doubtful
from transect.census.estimates.correction import Correction, DetectorError, SpeciesFactors
from transect.census.ground.coverage import Coverage, Region, Unit
from transect.census.ground.geometry import Grid
from transect.census.inputs.config import CensusConfig
from transect.census.inputs.survey import SurveySpec
from transect.census.issues import Issue
from transect.census.report.page import ReportInput, manifest_sections, render_report, write_report
from transect.census.sightings.animals import Animals

EAST, NORTH = 500_000.0, 9_830_000.0
VALIDATED = Applicability(
    (Check(kind="ground", species="", p=0.5, sentence="The photos differ from the validation images."),)
)
NAMES = ("sheep", "goat", "cow")
KNOWN = DetectorError(
    precision=0.9,
    precision_se=0.01,
    recall=0.8,
    recall_se=0.02,
    factor=1.125,
    cv=0.03,
    images=60,
    objects=240,
    precision_ci95=(0.878, 0.919),
    recall_ci95=(0.758, 0.836),
    factor_ci95=(1.06, 1.19),
)


def manifest(**changes: Any) -> dict[str, Any]:
    content: dict[str, Any] = {
        "schema": 1,
        "run": "0123456789ab",
        "created_at": "2026-03-04T05:06:07+00:00",
        "transect_version": "0.1.0",
        "survey": {
            "name": "mara",
            "digest": "d" * 64,
            "first_photo": "2026-01-02T03:04:05",
            "last_photo": "2026-01-09T03:04:05",
            "grid": "EPSG:32736 (UTM 36S)",
        },
        "model": {"name": "detector", "version": "7", "architecture": "yolo11n", "dataset": "waterholes"},
        "options": {"conf": 0.31, "iou": 0.5, "image_size": 640},
        "config": CensusConfig(thumbnails=0).model_dump(),
        "images": {"found": 12, "counted": 10, "unplaced": 1, "suspect": 0, "truncated": 0},
        "positions": {
            "gps_error_m": 0.8,
            "gps_error": "estimated",
            "yaw_error_deg": 1.5,
            "yaw_error": "assumed",
            "height_error_m": 1.0,
            "repeated_animals": 0,
        },
        "resampling": None,
        "area_km2": 0.01,
        "gsd_m": {"least": 0.049, "median": 0.05, "most": 0.051},
        "height_m": {"least": 62.0, "median": 64.0, "most": 66.0},
        "cameras": [{"camera": "FC6310", "focal_mm": 8.8, "photos": 12}],
    }
    return content | changes


def content(**changes: Any) -> ReportInput:
    """Five transects in one stratum; 12, 5, 0, 22 and 8 sheep, one goat, no cow."""
    sampling = changes.pop("sampling", "strip")
    corrections = changes.pop("corrections", None)
    method = changes.pop("method", "bootstrap")
    counts = (12, 5, 0, 22, 8)
    units = tuple(
        Unit(
            stratum="plain",
            transect=f"T{n + 1}",
            polygon=box(EAST + 300 * n, NORTH, EAST + 300 * n + 50, NORTH + 40),
            area_km2=0.002,
            frames=(n,),
        )
        for n in range(5)
    )
    if sampling == "total":
        units = (
            Unit(
                stratum="plain",
                transect="all",
                polygon=box(EAST, NORTH, EAST + 1250, NORTH + 40),
                area_km2=0.01,
                frames=tuple(range(5)),
            ),
        )
    shown = {n: box(EAST + 300 * n, NORTH, EAST + 300 * n + 50, NORTH + 40) for n in range(5)}
    regions = (Region("plain", 0.09, box(EAST, NORTH, EAST + 1250, NORTH + 72), None),)
    coverage = Coverage(shown, regions, units, 0.01, dict.fromkeys(range(5), "plain"))
    boxes = [(n, 0, 0.5, 20.0 + 20 * i, 100.0) for n, many in enumerate(counts) for i in range(many)]
    boxes.append((4, 1, 0.35, 300.0, 300.0))
    seen = observations(boxes)
    xy = np.column_stack([EAST + 300 * seen.frame + seen.box[:, 0] / 20, np.full(len(seen), NORTH + 20)])
    many = len(seen)
    unit = np.zeros(many, np.int64) if sampling == "total" else seen.frame
    animals = Animals(xy, seen.species, np.ones(many, np.int64), seen.score, unit)
    spec = SurveySpec.model_validate(
        {"schema": 1, "name": "mara", "sampling": sampling, "strata": [{"name": "plain", "area_km2": 0.09}]}
    )
    counted = tally(NAMES, seen, animals, coverage, spec, method=method, corrections=corrections)
    counted = with_doubtful(counted, counted, dict.fromkeys(NAMES, "validated"))
    fields: dict[str, Any] = {
        "spec": spec,
        "frames": [frame(Path(f"photo{n}.jpg"), transect=f"T{n + 1}") for n in range(5)],
        "coverage": coverage,
        "observations": seen,
        "animals": animals,
        "tally": counted,
        "issues": (),
        "names": NAMES,
        "manifest": manifest(),
        "max_pixels": 10_000_000,
        "grid": Grid(32736),
        "applicability": VALIDATED,
    }
    return ReportInput(**fields | changes)


def corrections(**factors: float) -> dict[str, Correction]:
    given = SpeciesFactors(**factors)
    return {
        name: Correction(species=name, factor=1.125, cv=0.03, detector=KNOWN, factors=given, note="") for name in NAMES
    }


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self._hidden = False

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self._hidden = tag in ("style", "script")

    def handle_endtag(self, tag: str) -> None:
        self._hidden = False

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.parts.append(data)


def words(html: str) -> str:
    """What a reader reads, with single spaces."""
    parser = _Text()
    parser.feed(html)
    return re.sub(r"\s+", " ", " ".join(parser.parts))


def test_the_report_says_first_what_was_found() -> None:
    text = words(render_report(content()))
    whole = content().tally.rows[0]
    assert whole.ci95 is not None
    low, high = (f"{limit:,.0f}".replace(",", " ") for limit in whole.ci95)
    assert f"An estimated {whole.estimate:.0f} sheep (95% limits {low} to {high}; 47 animals were counted" in text
    assert "No cow was seen" in text
    assert text.index("Summary") < text.index("From detections") < text.index("Estimates by stratum")
    assert text.index("Where the animals were") < text.index("Coverage") < text.index("Counts on each transect")
    assert text.index("What was left out") < text.index("Method") < text.index("Where these numbers come from")
    assert "2026-01-02 to 2026-01-09" in text
    assert "Nothing: every photo was read, searched and placed." in text


def test_without_a_correction_it_says_so_and_names_no_source_for_one() -> None:
    text = words(render_report(content()))
    assert "No correction was made for what the detector misses" in text
    assert "The numbers are what the detector found." in text
    assert "Sirken" not in text


def test_a_correction_is_shown_step_by_step_with_its_sources() -> None:
    text = words(render_report(content(corrections=corrections())))
    assert "Single look" in text
    assert "0.900 ± 0.010 (0.878 – 0.919)" in text
    assert "0.800 ± 0.020 (0.758 – 0.836)" in text
    assert "× 1.125" in text
    assert "Sirken, M. G. (1970)" in text
    assert "No availability or perception was given." in text
    assert "Marsh" not in text
    shared = words(render_report(content(corrections=corrections(availability=0.9, availability_se=0.05))))
    assert "0.900 ± 0.050" in shared
    assert "Marsh, H. and Sinclair" in shared


@pytest.mark.parametrize(
    ("method", "phrase"),
    [
        ("bootstrap", "studentised bootstrap over transects"),
        ("jolly2", "(Jolly 1969; Norton-Griffiths 1978)"),
        ("lognormal", "log-normal: Ŷ / C"),
        ("percentile", "97.5% points of a bootstrap"),
    ],
)
def test_the_method_is_the_one_that_was_used(method: str, phrase: str) -> None:
    text = words(render_report(content(method=method)))
    assert phrase in text
    cited = re.search(r"References (.*) Where these numbers", text)
    assert cited is not None
    # Every source that the text cites is listed, and no other.
    body = text[text.index(" Method ") : text.index(" References ")]
    listed = re.findall(r"([A-Z][\w-]+), [A-Z]\.[^()]*\((\d{4})\)", cited[1])
    assert len(listed) >= 3
    for name, year in listed:
        assert re.search(rf"{name}[^;)]*{year}", body), name
    for name, year in re.findall(r"\b([A-Z][a-z]+)(?:-[A-Z][a-z]+)?(?: et al\.| and [A-Z][a-z]+)? (\d{4})\b", body):
        assert re.search(rf"{name}[^()]*\({year}\)", cited[1]), name


def test_each_design_has_its_own_words() -> None:
    total = words(render_report(content(sampling="total")))
    assert "meant to photograph the whole area" in total
    assert "Counts on each transect" not in total
    line = manifest(config=manifest()["config"] | {"counting": "division_line"})
    assert "each place belongs to the photo whose middle is nearest" in words(render_report(content(manifest=line)))
    drawn = words(render_report(content(manifest=manifest(height_m=None))))
    assert "by the georeference of its map" in drawn


def test_failures_are_counted_by_kind_and_the_list_has_an_end() -> None:
    issues = [Issue(f"file{n}.jpg", "unreadable", "It is empty.") for n in range(230)]
    text = words(render_report(content(issues=[*issues, Issue("twin.jpg", "duplicate", "It is a copy.")])))
    assert "unreadable 230" in text
    assert "duplicate 1" in text
    assert "file199.jpg" in text
    assert "file200.jpg" not in text
    assert "31 more are in failures.csv." in text


def test_names_are_text_wherever_they_stand() -> None:
    evil = "<script>alert(1)</script>"
    plain = content()
    rows = tuple(replace(row, species=evil, note=evil) for row in plain.tally.rows)
    html = render_report(
        replace(
            plain,
            names=(evil,) * 3,
            tally=replace(plain.tally, rows=rows),
            issues=(Issue(evil, evil, evil),),
            manifest=manifest(survey=manifest()["survey"] | {"digest": evil}),
        )
    )
    assert evil not in html
    assert html.count("<script>") == 1


def test_the_manifest_is_told_whole() -> None:
    nested = {"files": {"a.csv": {"sha256": "ff", "size": 2}}, "cameras": [{"f": 8.8}], "none": {}}
    sections = manifest_sections({"run": "a", "images": {"found": 3}, "flag": True} | nested)
    assert sections == [
        ("census", [("run", "a"), ("flag", "yes")]),
        ("images", [("found", "3")]),
        ("files", [("a.csv", "sha256 ff; size 2")]),
        ("cameras", [("1", "f 8.8")]),
    ]


def test_a_survey_of_many_animals_draws_a_part_and_says_so() -> None:
    plain = content()
    one = plain.animals
    xy, numbers = np.tile(one.xy, (1000, 1)), np.tile(one.species, 1000)
    many = Animals(xy, numbers, np.tile(one.sightings, 1000), np.tile(one.score, 1000), np.tile(one.unit, 1000))
    html = render_report(replace(plain, animals=many))
    assert "one in 3 of them" in words(html)
    assert len(html) < 5_000_000


def test_the_file_is_written_whole_and_the_same_twice(tmp_path: Path) -> None:
    for name in ("one.html", "two.html"):
        write_report(tmp_path / name, content())
    one = (tmp_path / "one.html").read_bytes()
    assert one == (tmp_path / "two.html").read_bytes()
    assert one.startswith(b"<!doctype html>")


def test_without_a_study_area_there_are_counts_alone() -> None:
    plain = content()
    spec = plain.spec.model_copy(update={"strata": ()})
    coverage = replace(plain.coverage, regions=(), units=())
    animals = replace(plain.animals, unit=np.full(len(plain.animals.unit), -1))
    counted = tally(NAMES, plain.observations, animals, coverage, spec)
    text = words(render_report(replace(plain, spec=spec, coverage=coverage, animals=animals, tally=counted)))
    assert "47 sheep on 0.0100 km² (unique animals on the photographed ground; no estimate)" in text
    assert "Estimates by stratum" not in text
    assert "No study area was given" in text
