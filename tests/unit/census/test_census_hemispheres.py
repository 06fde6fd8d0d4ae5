from pathlib import Path

import pytest

from transect.census.ground.placement.frames import SourceFile
from transect.census.ground.placement.hemispheres import settle_hemispheres
from transect.census.ground.readings.reading import PhotoReading
from transect.census.inputs.flights import FlightRow
from transect.census.inputs.photos import LocalPhoto
from transect.census.inputs.survey import Stratum
from transect.imagery import FrameMetadata

PHOTO = FrameMetadata(position_problem="no hemisphere", possible_positions=((1.497, 35.105), (-1.497, 35.105)))


def plain(south: float, north: float) -> Stratum:
    return Stratum(name="a", polygon=((35.1, south), (35.2, south), (35.2, north), (35.1, north)))


def settled(strata: list[Stratum], row: FlightRow | None = None) -> FrameMetadata:
    (read,) = settle_hemispheres(
        [SourceFile(name="a", photo=LocalPhoto(Path("a")), row=row, read=PhotoReading(metadata=PHOTO))], strata
    )
    return read.metadata


@pytest.mark.parametrize("south", [-1.6, -1.49])
def test_the_polygon_settles_a_hemisphere_and_says_so(south: float) -> None:
    found = settled([plain(south, south + 0.15)])
    assert (found.latitude, found.longitude) == (-1.497, 35.105)
    assert "the only one of 2 possible places" in found.remarks[0]


def test_nothing_is_guessed() -> None:
    assert settled([Stratum(name="a", area_km2=4.0)]).latitude is None
    both = settled([plain(-1.6, 1.6)])
    assert both.latitude is None
    assert "several of its possible places" in both.position_problem
    assert "none of its possible places" in settled([plain(10, 11)]).position_problem
    row = FlightRow(line=2, image="a", lat=1.0, lon=35.0)
    assert settled([plain(-1.6, -1.4)], row) is PHOTO
