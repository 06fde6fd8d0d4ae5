from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from shapely.geometry import box

from observation_builders import frame, species_row
from transect.census.applicability.state import UNKNOWN_ERRORS
from transect.census.counting.tally import SpeciesRow
from transect.census.ground.coverage import Coverage, Region
from transect.census.inputs.survey import SurveySpec
from transect.census.report.remarks import remarks

ROW = species_row("sheep")
COVERAGE = Coverage({0: box(0, 0, 9, 9), 1: box(9, 0, 18, 9)}, (Region("plain", 1.0, None, None),), (), 1.0, {})
FRAMES = [frame(Path("a.jpg")), frame(Path("b.jpg"))]
SPEC = SurveySpec.model_validate({"schema": 1, "name": "mara", "strata": [{"name": "plain", "area_km2": 1}]})
CAMERA = {"camera": "FC6310", "focal_mm": 8.8, "photos": 1}


def remarks_of(*rows: SpeciesRow, frames: list[Any] = FRAMES, spec: SurveySpec = SPEC, **manifest: Any) -> list[str]:
    images = {"unplaced": 0, "suspect": 0, "truncated": 0} | manifest.pop("images", {})
    return remarks(
        rows, {"images": images, "cameras": [CAMERA], "resampling": None, **manifest}, frames, COVERAGE, spec
    )


def test_a_clean_census_needs_no_remark() -> None:
    assert remarks_of(ROW) == []


def test_a_note_names_its_species_unless_it_is_about_all() -> None:
    noted = replace(ROW, note="Rough.")
    assert remarks_of(noted, replace(noted, species="goat")) == ["Rough."]
    assert remarks_of(noted, replace(noted, species="cow"), replace(ROW, species="goat")) == ["sheep, cow: Rough."]
    # A species that was not seen needs no warning.
    assert remarks_of(ROW, replace(ROW, species="goat", unique=0, note="None was seen.")) == []


def test_what_stands_beside_the_number_is_no_remark() -> None:
    doubted = replace(ROW, detector="not validated here", note=UNKNOWN_ERRORS)
    assert remarks_of(doubted) == []
    assert remarks_of(replace(doubted, note=f"Rough. {UNKNOWN_ERRORS}")) == ["Rough."]


@pytest.mark.parametrize(
    ("changes", "images", "words"),
    [
        ({"seen_unplaced": 7}, {"unplaced": 1}, "without a usable position: 7, in 1 photo. They"),
        ({"outside": 3}, {}, "in no estimate: 3."),
        ({}, {"suspect": 2}, "contradicts that of other photos: 2 photos, named"),
        ({}, {"truncated": 1}, "In 1 photo the detector reached its limit"),
    ],
)
def test_what_is_wrong_is_said_with_its_number(changes: dict[str, Any], images: dict[str, int], words: str) -> None:
    (remark,) = remarks_of(replace(ROW, **changes), images=images)
    assert words in remark


def test_photos_on_no_transect_matter_to_a_strip_survey_alone() -> None:
    lone = [FRAMES[0], frame(Path("b.jpg"), transect=None)]
    (remark,) = remarks_of(ROW, frames=lone)
    assert remark.startswith("On no transect: 1 photo.")
    assert remarks_of(ROW, frames=lone, spec=SPEC.model_copy(update={"sampling": "total"})) == []


def test_several_cameras_are_named() -> None:
    (remark,) = remarks_of(ROW, cameras=[CAMERA, CAMERA | {"camera": "M3E", "photos": 5}])
    assert "FC6310, 8.8 mm: 1 photo; M3E, 8.8 mm: 5 photos." in remark
