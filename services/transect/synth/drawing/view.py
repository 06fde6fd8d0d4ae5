"""The view of a picture on the ground: metres (east, north) to pixels and back."""

from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Number = TypeVar("Number", float, NDArray[np.float64])


@dataclass(frozen=True, kw_only=True)
class View:
    """A nadir picture: `yaw_deg` is the direction of the picture's top, clockwise from north."""

    x: float
    y: float
    gsd: float
    """Metres a pixel."""
    yaw_deg: float
    width: int
    height: int

    @property
    def right(self) -> tuple[float, float]:
        """Unit vector (east, north) along a row."""
        yaw = np.radians(self.yaw_deg)
        return float(np.cos(yaw)), float(-np.sin(yaw))

    @property
    def up(self) -> tuple[float, float]:
        """Unit vector (east, north) against a column."""
        yaw = np.radians(self.yaw_deg)
        return float(np.sin(yaw)), float(np.cos(yaw))

    @property
    def radius_m(self) -> float:
        """Half of the diagonal on the ground."""
        return 0.5 * self.gsd * float(np.hypot(self.width, self.height))

    def part(self, left: int, top: int, width: int, height: int) -> "View":
        """The view of a rectangle of pixels, which may reach beyond this view."""
        x, y = self.to_ground(left + width / 2, top + height / 2)
        return replace(self, x=x, y=y, width=width, height=height)

    def to_pixels(self, x: Number, y: Number) -> tuple[Number, Number]:
        """Column and row, where pixel i covers [i, i + 1); of one ground point or of arrays of them."""
        east, north = (x - self.x) / self.gsd, (y - self.y) / self.gsd
        right, up = self.right, self.up
        return (
            self.width / 2 + east * right[0] + north * right[1],
            self.height / 2 - east * up[0] - north * up[1],
        )

    def to_ground(self, column: float, row: float) -> tuple[float, float]:
        """The reverse of `to_pixels`."""
        across, along = (column - self.width / 2) * self.gsd, (self.height / 2 - row) * self.gsd
        right, up = self.right, self.up
        return self.x + across * right[0] + along * up[0], self.y + across * right[1] + along * up[1]

    def matrix(self) -> NDArray[np.float64]:
        """2x3 matrix from pixel index (of the pixel's centre) to metres."""
        origin = self.to_ground(0.5, 0.5)
        right, up = self.right, self.up
        return np.array(
            [
                [self.gsd * right[0], -self.gsd * up[0], origin[0]],
                [self.gsd * right[1], -self.gsd * up[1], origin[1]],
            ]
        )

    def contains(self, x: float, y: float) -> bool:
        """Whether a ground point lies in the picture."""
        column, row = self.to_pixels(x, y)
        return 0 <= column < self.width and 0 <= row < self.height
