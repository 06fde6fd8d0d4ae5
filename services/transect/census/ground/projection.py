"""Vectorised projection: positions, scales and footprints of many frames at once."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from shapely import polygons
from shapely.geometry.base import BaseGeometry

from transect.arrays import FloatArray, IntArray
from transect.census.ground.geometry import GroundView, Pose, image_axes


class Views:
    """The views of a survey's frames; None for a frame without a placement.

    Rows of the methods' arrays (n, ...) are pixels or places, and `frame` (n,) is the frame of each. Photos are
    computed at once, maps one by one; rows of frames without a placement are NaN.

    Usage::

        views = Views(plan.poses)
        xy = views.to_ground(frame, pixels)     # (n, 2) grid metres
    """

    def __init__(self, views: Sequence[GroundView | None]) -> None:
        self._views = views
        table = np.full((len(views), 10), np.nan)
        for number, view in enumerate(views):
            if isinstance(view, Pose):
                table[number] = (
                    *(view.x, view.y, view.height_m, view.focal_px, view.width / 2, view.height / 2),
                    *(view.yaw_deg, view.pitch_deg, view.roll_deg, view.turn_deg),
                )
        self._place, self._height, self._focal, self._middle = table[:, :2], table[:, 2], table[:, 3], table[:, 4:6]
        self._axes = image_axes(table[:, 6], table[:, 7], table[:, 8], table[:, 9])
        self._is_map = np.array([view is not None and not isinstance(view, Pose) for view in views], bool)
        self.position_sd_m = np.array(
            [math.nan if view is None or view.position_sd_m is None else view.position_sd_m for view in views]
        ).reshape(-1)

    def to_ground(self, frame: IntArray, pixels: FloatArray) -> FloatArray:
        """Pixels (n, 2) to grid metres (n, 2), as Pose.to_ground."""
        rays = self._rays(frame, pixels)
        found = self._place[frame] + rays[:, :2] * (self._height[frame] / rays[:, 2])[:, None]
        for rows, view in self._maps(frame):
            found[rows] = view.to_ground(pixels[rows])
        return found

    def scale_at(self, frame: IntArray, pixels: FloatArray) -> FloatArray:
        """Grid metres a pixel at pixels (n, 2), (n,), as Pose.scale_at."""
        found = self._height[frame] * np.sqrt(self._focal[frame] / self._rays(frame, pixels)[:, 2] ** 3)
        for rows, view in self._maps(frame):
            found[rows] = view.scale_at(pixels[rows])
        return np.asarray(found, np.float64)

    def pose_error_sd(self, frame: IntArray, xy: FloatArray, yaw_error_deg: float, height_error_m: float) -> FloatArray:
        """Standard deviation (n,) in metres by errors of yaw and height at places (n, 2), as Pose.pose_error_sd."""
        distance = np.hypot(*(xy - self._place[frame]).T)
        found = distance * np.hypot(math.radians(yaw_error_deg), height_error_m / self._height[frame])
        for rows, view in self._maps(frame):
            found[rows] = view.pose_error_sd(xy[rows], yaw_error_deg, height_error_m)
        return np.asarray(found, np.float64)

    def footprints(self) -> list[BaseGeometry | None]:
        """The ground that each frame shows, in grid metres."""
        photos = np.array([number for number, view in enumerate(self._views) if isinstance(view, Pose)], np.int64)
        # The corners of Pose.outline, in its order.
        corners = self._middle[photos, None] * (np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) + 1.0)
        ground = self.to_ground(np.repeat(photos, 4), corners.reshape(-1, 2)).reshape(-1, 4, 2)
        quads = iter(polygons(ground).tolist() if len(photos) else ())
        return [
            next(quads) if isinstance(view, Pose) else None if view is None else view.outline() for view in self._views
        ]

    def _rays(self, frame: IntArray, pixels: FloatArray) -> FloatArray:
        offset = pixels - self._middle[frame]
        viewing = np.stack([offset[:, 0], -offset[:, 1], self._focal[frame]], axis=-1)
        rays = np.einsum("ni,nij->nj", viewing, self._axes[frame])
        rays[~(rays[:, 2] > 0)] = np.nan
        return np.asarray(rays, np.float64)

    def _maps(self, frame: IntArray) -> Iterator[tuple[IntArray, GroundView]]:
        """Each map with its rows."""
        rows = np.flatnonzero(self._is_map[frame])
        rows = rows[np.argsort(frame[rows], kind="stable")]
        for mine in np.split(rows, np.flatnonzero(np.diff(frame[rows])) + 1) if len(rows) else ():
            view = self._views[frame[mine[0]]]
            if view is not None:
                yield mine, view
