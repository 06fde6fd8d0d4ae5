"""Positions whose hemisphere the file does not write: settled by the survey's polygons, or not at all."""

from collections.abc import Sequence
from dataclasses import replace

from transect.census.ground.placement.frames import Reading
from transect.census.inputs.survey import Stratum
from transect.census.lonlat import metres_to_polygon

# Photos of the way to a stratum, or of its border, lie this near.
NEAR_M = 2000.0


def settle_hemispheres(reads: Sequence[Reading], strata: Sequence[Stratum]) -> list[Reading]:
    """The photos, with the position of those for which one candidate alone lies in or near a stratum's polygon.

    The others keep none; what is wrong with their position then says what would settle it.
    """
    return [_settled(read, strata) if read.metadata.possible_positions else read for read in reads]


def _settled(read: Reading, strata: Sequence[Stratum]) -> Reading:
    metadata = read.metadata
    if metadata.latitude is not None or (read.row is not None and read.row.lat is not None):
        return read
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
        return replace(
            read,
            metadata=replace(
                metadata,
                latitude=latitude,
                longitude=longitude,
                position_problem="",
                remarks=(*metadata.remarks, remark),
            ),
        )
    if polygons:
        found = "several" if near else "none"
        problem += f", and {found} of its possible places lie in or near the strata's polygons"
    advice = "give lat and lon in flights.csv" if polygons else "give lat and lon in flights.csv, or polygons of strata"
    return replace(read, metadata=replace(metadata, position_problem=f"{problem}; {advice}"))
