"""All photos of a survey on one grid."""

from collections.abc import Sequence

import numpy as np

from transect.census.ground.geometry import MOST_GRID_SCALE, Grid, GroundView, Pose
from transect.census.ground.orthomosaic import Mosaic
from transect.census.ground.placement.frames import Frame, Placement, without_placement


def project_to_grid(frames: Sequence[Frame]) -> tuple[Grid, tuple[Frame, ...], tuple[GroundView | None, ...]]:
    """The grid of a survey, its frames, and the view of each on the grid (None: no placement).

    A frame that lies too far from the others for one grid loses its placement, with the reason.
    """
    numbers = [number for number, frame in enumerate(frames) if frame.placement is not None]
    placements = [frame.placement for frame in frames if frame.placement is not None]
    longitudes = np.array([placement.longitude for placement in placements])
    latitudes = np.array([placement.latitude for placement in placements])
    grid = Grid.around(longitudes, latitudes)
    xy = grid.forward(longitudes, latitudes)
    convergence, scale = grid.factors(longitudes, latitudes)
    kept, views = list(frames), list[GroundView | None]([None] * len(frames))
    for row, (number, placement) in enumerate(zip(numbers, placements, strict=True)):
        frame = frames[number]
        if not (np.isfinite(xy[row]).all() and scale[row] <= MOST_GRID_SCALE):
            kept[number] = without_placement(
                frame,
                f"no common grid: latitude {placement.latitude:g}, longitude {placement.longitude:g} is too far from "
                f"the middle of the survey ({grid.name}); correct it, or count that part as a survey of its own.",
            )
        elif isinstance(placement, Placement):
            place = (float(xy[row, 0]), float(xy[row, 1]))
            views[number] = _pose(frame, placement, place, float(convergence[row]), float(scale[row]))
        else:
            views[number] = Mosaic(placement, grid.epsg)
    return grid, tuple(kept), tuple(views)


def _pose(frame: Frame, placement: Placement, place: tuple[float, float], convergence_deg: float, scale: float) -> Pose:
    return Pose(
        x=place[0],
        y=place[1],
        yaw_deg=placement.yaw_deg - convergence_deg,
        height_m=placement.height_m * scale,
        metres_per_pixel=placement.gsd_m * scale,
        width=frame.width,
        height=frame.height,
        pitch_deg=placement.pitch_deg,
        roll_deg=placement.roll_deg,
        turn_deg=placement.turn_deg,
        position_sd_m=placement.position_sd_m,
    )
