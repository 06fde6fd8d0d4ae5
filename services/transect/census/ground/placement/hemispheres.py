"""Positions without a hemisphere in the file: resolved by the survey's polygons, or not at all."""

from collections.abc import Sequence
from dataclasses import replace

from transect.census.ground.placement.frames import SourceFile
from transect.census.inputs.survey import Stratum
from transect.census.lonlat import metres_to_polygon

# Photos on the way to a stratum, or of its border, lie this near.
NEAR_M = 2000.0


def settle_hemispheres(files: Sequence[SourceFile], strata: Sequence[Stratum]) -> list[SourceFile]:
    """The photos, with the position of those for which exactly one candidate lies in or near a stratum's polygon.

    The others have none, and their `position_problem` contains the remedy.
    """
    return [_settle(file, strata) if file.metadata.possible_positions else file for file in files]


def _settle(file: SourceFile, strata: Sequence[Stratum]) -> SourceFile:
    metadata = file.metadata
    if metadata.latitude is not None or (file.row is not None and file.row.lat is not None):
        return file
    polygons = [stratum.polygon for stratum in strata if stratum.polygon is not None]
    near = [
        (latitude, longitude)
        for latitude, longitude in metadata.possible_positions
        if any(metres_to_polygon(longitude, latitude, polygon) <= NEAR_M for polygon in polygons)
    ]
    problem = metadata.position_problem or "its position has no hemisphere"
    if len(near) == 1:
        ((latitude, longitude),) = near
        remark = (
            f"{problem}; latitude {latitude:.6f}, longitude {longitude:.6f} is taken, the only one of "
            f"{len(metadata.possible_positions)} possible places that lies in or near a stratum's polygon."
        )
        settled = replace(
            metadata,
            latitude=latitude,
            longitude=longitude,
            position_problem="",
            remarks=(*metadata.remarks, remark),
        )
        return replace(file, read=replace(file.read, metadata=settled))
    if polygons:
        found = "several" if near else "none"
        problem += f", and {found} of its possible places lie in or near the strata's polygons"
    advice = "give lat and lon in flights.csv" if polygons else "give lat and lon in flights.csv, or polygons of strata"
    unknown = replace(metadata, position_problem=f"{problem}; {advice}")
    return replace(file, read=replace(file.read, metadata=unknown))
