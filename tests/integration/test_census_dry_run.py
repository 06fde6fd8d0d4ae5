"""`transect census run --dry-run`: a model that is timed on two photos, and nothing written."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cli_process import run

COLUMNS = "image,transect,lat,lon,height_agl_m,yaw_deg,time\n"


@pytest.fixture
def survey(tmp_path: Path) -> Path:
    """Eight photos of 192 by 128 px on two transects, placed by flights.csv."""
    folder = tmp_path / "flight"
    rows = []
    for number in range(8):
        file = folder / "images" / f"T{number // 4 + 1}" / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((128, 192, 3), number, np.uint8)).save(file)
        lat = -1.5 + number % 4 * 0.0003
        rows.append(f"{file.name},,{lat},{35.1 + number // 4 * 0.01},64,0,2026-07-14T09:3{number}:00\n")
    (folder / "flights.csv").write_text(COLUMNS + "".join(rows))
    (folder / "survey.yaml").write_text(
        "camera: {sensor_width_mm: 13.2, focal_mm: 8.8}\nstrata: [{name: plain, area_km2: 1.2}]\n"
    )
    return folder


def transect(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command in `folder` with a home of its own and no tracking server."""
    variables = {"TRANSECT_HOME": str(folder / "home"), "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/none.db"}
    return run(*arguments, cwd=folder, env=os.environ | variables | {"COLUMNS": "200"}, timeout=120)


def test_a_dry_run_times_the_model_and_writes_nothing(survey: Path, dot_package: Path, tmp_path: Path) -> None:
    before = sorted(survey.rglob("*"))
    done = transect(tmp_path, "census", "run", str(survey), "--model", str(dot_package), "--dry-run", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["images"], told["placed"], told["transects"]) == (8, 8, 2)
    assert told["time"]["timed"] == 2
    assert told["time"]["seconds"] > 0
    # Photos of the same size: the tiles of one, eight times.
    assert told["time"]["tiles"] % 8 == 0
    assert told["gsd_m"]["median"] == pytest.approx(0.5)
    assert told["strata"][0]["transects"] == 2
    assert sorted(survey.rglob("*")) == before
    assert not (tmp_path / "results").exists()


def test_without_a_model_everything_but_the_time_is_told(survey: Path, tmp_path: Path) -> None:
    (survey / "images" / "T1" / "broken.jpg").write_bytes(b"no image")
    done = transect(tmp_path, "census", "run", str(survey), "--model", "models:/nothing/1", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "9, of which 8 can be placed on the ground" in done.stdout
    assert "not known" in done.stdout
    assert "broken.jpg" in done.stdout
    assert "stratum plain" in done.stdout


def test_json_is_for_a_dry_run(survey: Path, tmp_path: Path) -> None:
    done = transect(tmp_path, "census", "run", str(survey), "--json")
    assert done.returncode == 2
    assert "--json is for --dry-run" in done.stderr
    assert "Traceback" not in done.stderr
