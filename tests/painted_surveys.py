"""Painted surveys: real photos for a model that finds coloured squares, with known truth, and the census of one."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from transect.census import CensusConfig, CensusResult, load_survey, run_census
from transect.census.ground.geometry import Grid
from transect.engine import Detector
from transect.settings import load_settings

COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255))
NAMES = ("sheep", "goat", "cow")
# A square of 8 px is what the model finds, on a grid of 8 px. At 64 m one pixel is 0.5 m.
CELL, WIDTH, HEIGHT, GSD = 8, 192, 128, 0.5
STEP_M, SPACING_M, TRANSECTS = 48.0, 400.0, 4
# The tiles of 64 px must begin on the model's grid too.
CONFIG = CensusConfig(overlap=16, thumbnails=4)
SURVEY_YAML = """\
schema: 1
name: painted
camera: {sensor_width_mm: 13.2, focal_mm: 8.8}
sampling: strip
strata: [{name: plain, area_km2: 1.2}]
"""
# On the middle of a UTM zone, where grid north is true north.
GRID = Grid(32736)
ORIGIN = (500_000.0, 9_830_000.0)


@dataclass(frozen=True)
class Painted:
    """A survey folder, and how many animals of each species its photos show."""

    folder: Path
    photographed: dict[str, int]
    boxes: dict[str, int]


def paint_survey(folder: Path, photos: int = 5, seed: int = 0) -> Painted:
    """Transects flown north; the same animals are in overlapping photos at the same place."""
    rng = np.random.default_rng(seed)
    seen: dict[str, int] = dict.fromkeys(NAMES, 0)
    boxes: dict[str, int] = dict.fromkeys(NAMES, 0)
    rows = ["image,lat,lon,height_agl_m,yaw_deg,time"]
    metre = CELL * GSD
    for transect in range(TRANSECTS):
        # Cells of 4 m over the strip, every third in each direction free for an animal.
        cells = np.zeros((int(((photos - 1) * STEP_M + HEIGHT * GSD) / metre), int(WIDTH * GSD / metre)), np.int64)
        free = cells[1::3, 1::3]
        free[rng.random(free.shape) < 0.15] = 1
        cells[1::3, 1::3] = free * rng.integers(1, 4, free.shape)
        for species, name in enumerate(NAMES, start=1):
            seen[name] += int((cells == species).sum())
        for photo in range(photos):
            first = int(photo * STEP_M / metre)
            shown = cells[first : first + HEIGHT // CELL]
            image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
            for species, name in enumerate(NAMES, start=1):
                boxes[name] += int((shown == species).sum())
                mask = np.kron(shown[::-1] == species, np.ones((CELL, CELL), bool))
                image[mask] = COLOURS[species - 1]
            file = folder / "images" / f"T{transect + 1}" / f"T{transect + 1}_{photo:03}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            # A grey line of its own makes every photo another one, also those without an animal.
            image[0, :8] = (transect * photos + photo) % 200 + 1
            Image.fromarray(image).save(file)
            x = ORIGIN[0] + transect * SPACING_M
            y = ORIGIN[1] + photo * STEP_M
            lon, lat = GRID.inverse(np.array([[x, y]]))[0]
            when = f"2026-07-14T09:{transect:02}:{photo:02}"
            rows.append(f"{file.parent.name}/{file.name},{lat:.9f},{lon:.9f},64,0,{when}")
    (folder / "flights.csv").write_text("\n".join(rows) + "\n")
    (folder / "survey.yaml").write_text(SURVEY_YAML)
    return Painted(folder, seen, boxes)


def count(survey: Path, out: Path, detector: Detector, config: CensusConfig = CONFIG) -> CensusResult:
    """The census of a painted survey."""
    return run_census(load_survey(survey), out=out, detector=detector, config=config, settings=load_settings({}, None))


def counted_boxes(result: Path) -> pa.Table:
    """The rows of detections.parquet in a result folder that count: without the candidates."""
    return pq.read_table(result / "detections.parquet", filters=[("counts", "==", True)])


def rows_of(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def polygon(west: float, east: float) -> str:
    """A stratum's corners in survey.yaml, from metres east of the first transect."""
    edges = [(west, -100.0), (east, -100.0), (east, 400.0), (west, 400.0)]
    corners = GRID.inverse(np.array([[ORIGIN[0] + x, ORIGIN[1] + y] for x, y in edges]))
    return str([[round(float(lon), 8), round(float(lat), 8)] for lon, lat in corners])
