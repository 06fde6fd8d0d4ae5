"""Every file below images/ is in the dry run once: counted, left out or unusable."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from transect.census import CensusConfig, load_survey
from transect.census.dry_run import dry_run
from transect.errors import SurveyError
from transect.settings import Settings

SURVEY = """
camera: {sensor_width_mm: 13.2, focal_mm: 8.8}
strata: [{name: plain, area_km2: 9}]
"""


def survey_of(folder: Path, photos: tuple[str, ...]) -> Path:
    images = folder / "images"
    (folder / "survey.yaml").parent.mkdir(parents=True)
    (folder / "survey.yaml").write_text(SURVEY)
    rows = ["image;transect;lat;lon;height_agl_m;yaw_deg"]
    for number, name in enumerate(photos):
        path = images / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((32, 48, 3), number, np.uint8)).save(path, "JPEG")
        rows.append(f"{name.upper()};T1;-1,49{number};35,105;60;90")
    (folder / "flights.csv").write_text("\n".join(rows) + "\n;;;;;\n")
    return images


def test_counted_left_out_and_unusable_add_up_to_what_find_sees(tmp_path: Path) -> None:
    photos = ("T1/a 1.JPG", "T1/dji_fly_1", "T1/b.jpe", "Süd/c.jfif")
    images = survey_of(tmp_path / "s", photos)
    for name in (".Trash-1000/files/DJI_3.JPG", "@eaDir/a.jpg", "T1/notes.txt", "T1/._a 1.JPG", "Thumbs.db"):
        path = images / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((images / photos[0]).read_bytes())
    (images / "T1" / "IMG_1.HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    (images / "T1" / "renamed.JPG").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    (images / "T1" / "empty.jpg").write_bytes(b"")
    (images / "gone.jpg").symlink_to("nowhere.jpg")
    printed = json.loads(
        json.dumps(
            dry_run(
                load_survey(tmp_path / "s"), CensusConfig(), Settings.model_validate({}), detector=None, why_not="none"
            ).to_json()
        )
    )
    files = printed["files"]
    assert files["counted"] == sorted(photos)
    assert printed["placed"] == 4
    unusable = {one["file"]: one["reason"] for one in files["unusable"]}
    assert sorted(unusable) == ["T1/IMG_1.HEIC", "T1/empty.jpg", "T1/renamed.JPG", "gone.jpg"]
    assert "heif-convert" in unusable["T1/IMG_1.HEIC"]
    assert "heif-convert" in unusable["T1/renamed.JPG"]
    assert {one["file"] for one in printed["unusable"] if one["kind"] == "unreadable"} == set(unusable)
    assert len(files["left_out"]) == 5
    seen = subprocess.run(
        ["find", str(images), "(", "-type", "f", "-o", "-type", "l", ")", "-print0"], capture_output=True, check=True
    )
    names = {os.path.relpath(os.fsdecode(path), images) for path in seen.stdout.split(b"\0") if path}
    listed = [*files["counted"], *(one["file"] for one in (*files["left_out"], *files["unusable"]))]
    assert (len(listed), set(listed)) == (files["found"], names)


def test_a_survey_of_phone_pictures_alone_says_how_to_convert_them(tmp_path: Path) -> None:
    images = survey_of(tmp_path / "s", ())
    images.mkdir()
    (images / "IMG_1.HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    with pytest.raises(SurveyError, match=r"holds no photos .*IMG_1\.HEIC is of a kind that is not read \(HEIF\)"):
        load_survey(tmp_path / "s")
