"""The canvas of a picture, and the sprites that are painted on it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from transect.synth.drawing.noise import Field


@dataclass(frozen=True, kw_only=True)
class Sprite:
    """A patch to paint on a canvas: its top left pixel, and one value (albedo: three) a pixel."""

    left: int
    top: int
    alpha: Field
    albedo: NDArray[np.float32]
    """Linear RGB."""
    z: Field
    """Height of the surface above the ground, metres; casts shadows."""
    relief: Field
    """Rounded heights without cliffs, metres; for shading."""


@dataclass(frozen=True)
class Canvas:
    """Surface of the whole view; the arrays are those of `Sprite` and are painted in place."""

    albedo: NDArray[np.float32]
    z: Field
    relief: Field

    def lay(self, sprite: Sprite) -> Field | None:
        """Paint a patch on the canvas; return its alpha where it overlaps the canvas, or None outside."""
        rows, columns = self.z.shape
        alpha, left, top = sprite.alpha, sprite.left, sprite.top
        y0, x0 = max(top, 0), max(left, 0)
        y1, x1 = min(top + alpha.shape[0], rows), min(left + alpha.shape[1], columns)
        if y0 >= y1 or x0 >= x1:
            return None
        inner = (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))
        outer = (slice(y0, y1), slice(x0, x1))
        a = alpha[inner]
        self.albedo[outer] += (sprite.albedo[inner] - self.albedo[outer]) * a[..., None]
        self.z[outer] += (sprite.z[inner] - self.z[outer]) * a
        self.relief[outer] += (sprite.relief[inner] - self.relief[outer]) * a
        return a
