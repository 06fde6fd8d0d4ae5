"""Sun, sky and camera: shadows, shading, and the sensor's response."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from transect.synth.drawing.noise import Field, smoothstep
from transect.synth.drawing.view import View
from transect.synth.land.ground import Colour


@dataclass(frozen=True)
class Light:
    """The light sources; colours are linear RGB factors."""

    azimuth_deg: float
    """Direction to the sun, clockwise from north."""
    elevation_deg: float
    sun: Colour
    """Strength of the direct light on level ground; (0, 0, 0) when overcast."""
    sky: Colour
    """Strength of the light from the sky."""
    penumbra_m: float = 0.05
    """Softness of the edges of shadows, as a height."""


@dataclass(frozen=True)
class Optics:
    """The effects of camera and file format on the picture."""

    exposure: float
    """Linear brightness that becomes mid grey (0.5 of the output range) before the curve."""
    white: Colour = (1.0, 1.0, 1.0)
    contrast: float = 0.0
    """-0.5 flat .. 0.5 steep."""
    saturation: float = 1.0
    haze: float = 0.0
    vignette: float = 0.0
    blur_px: float = 0.0
    motion_px: float = 0.0
    motion_deg: float = 0.0
    sharpen: float = 0.0
    noise: float = 0.01
    """Standard deviation of the sensor noise at mid grey, of the output range."""
    quality: int = 90


def sun_view(light: Light, view: View) -> tuple[float, float]:
    """Unit vector to the sun in the picture: (columns right, rows down)."""
    angle = np.radians(light.azimuth_deg - view.yaw_deg)
    return float(np.sin(angle)), float(-np.cos(angle))


def shadow_reach_m(light: Light, height_m: float) -> float:
    """Length of the shadow of something `height_m` high; 0 when overcast."""
    return 0.0 if max(light.sun) == 0 else height_m / float(np.tan(np.radians(light.elevation_deg)))


def illuminate(albedo: NDArray[np.float32], z: Field, relief: Field, light: Light, view: View) -> NDArray[np.float32]:
    """Radiance (linear RGB) of a surface with heights `z` and rounded heights `relief`, both metres."""
    sky = np.array(light.sky, np.float32) * _openness(z, view)[..., None]
    if max(light.sun) == 0:
        return albedo * sky
    lit = _sunlit(z, light, view) * _lambert(relief, light, view)
    return np.asarray(albedo * (sky + np.array(light.sun, np.float32) * lit[..., None]), dtype=np.float32)


def _openness(z: Field, view: View) -> Field:
    """The approximate share of visible sky (ambient occlusion): low places beside high ones are darker."""
    if not z.any():
        return np.ones_like(z)
    side = int(max(3, 2 * round(0.5 / view.gsd / 2) + 1))
    around = cv2.blur(z, (side, side))
    lower = np.clip((around - z) / 0.7, 0.0, 1.0)
    return np.asarray(1.0 - 0.5 * lower, dtype=np.float32)


def _lambert(relief: Field, light: Light, view: View) -> Field:
    """Brightness of a slope in the sun over that of level ground."""
    to_x, to_y = sun_view(light, view)
    step = 2.0 * view.gsd
    slope_x = cv2.filter2D(relief, -1, np.array([[-1.0, 0.0, 1.0]], np.float32)) / np.float32(step)
    slope_y = cv2.filter2D(relief, -1, np.array([[-1.0], [0.0], [1.0]], np.float32)) / np.float32(step)
    slope_x, slope_y = np.clip(slope_x, -3, 3), np.clip(slope_y, -3, 3)
    cot = 1.0 / float(np.tan(np.radians(max(light.elevation_deg, 25.0))))
    facing = 1.0 - np.float32(cot * to_x) * slope_x - np.float32(cot * to_y) * slope_y
    facing /= np.sqrt(1.0 + slope_x**2 + slope_y**2)
    return np.asarray(np.clip(facing, 0.0, 2.2), dtype=np.float32)


def _sunlit(z: Field, light: Light, view: View) -> Field:
    """1 in the sun, 0 in cast shadow.

    The highest obstacle towards the sun, max over t of z(p + t*s) - t*tan(elevation), is found by
    doubling the distance: each pass joins two stretches, so n passes reach 2^n pixels.
    """
    rise = view.gsd * float(np.tan(np.radians(light.elevation_deg)))
    reach = float(z.max()) / rise
    if reach < 1:
        return np.ones_like(z)
    to_x, to_y = sun_view(light, view)
    highest, distance = z, 1.0
    while distance < reach * 2:
        shift = np.array([[1.0, 0.0, distance * to_x], [0.0, 1.0, distance * to_y]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        far = cv2.warpAffine(highest, shift, (z.shape[1], z.shape[0]), flags=flags, borderMode=cv2.BORDER_CONSTANT)
        highest = np.maximum(highest, far - np.float32(distance * rise))
        distance *= 2
    return 1.0 - smoothstep(0.02, 0.02 + light.penumbra_m + 0.6 * rise, highest - z)


def develop(radiance: NDArray[np.float32], optics: Optics, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Linear RGB to an 8-bit RGB picture like a camera's."""
    mid_grey = 0.5**2.2  # the sRGB curve is close to the power 1 / 2.2
    gain = np.array(optics.white, np.float32) * np.float32(mid_grey / optics.exposure)
    image = radiance * gain
    if optics.vignette:
        image *= _falloff(image.shape, optics.vignette)[..., None]
    if optics.haze:
        image += (np.array([0.46, 0.50, 0.56], np.float32) - image) * np.float32(optics.haze)
    image = np.clip(image, 0.0, 1.0) ** np.float32(1 / 2.2)
    if optics.contrast:
        image += np.float32(optics.contrast * 1.6) * (image - 0.5) * image * (1.0 - image) * 4.0
    if optics.saturation != 1:
        image = cv2.transform(image, _towards_grey(optics.saturation))
    image = _blurred(np.ascontiguousarray(image, dtype=np.float32), optics)
    if optics.noise:
        # Mostly grey, as after a camera's own colour denoising.
        image += cv2.transform(
            rng.standard_normal(image.shape, dtype=np.float32), _towards_grey(0.4) * 1.5 * optics.noise
        )
    return (np.clip(image, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)


def _towards_grey(saturation: float) -> NDArray[np.float32]:
    """Matrix that keeps the mean of the channels and scales their differences."""
    return (saturation * np.eye(3) + (1.0 - saturation) / 3.0).astype(np.float32)


def _falloff(shape: tuple[int, ...], strength: float) -> Field:
    y = np.linspace(-1, 1, shape[0], dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, shape[1], dtype=np.float32)[None, :]
    return np.asarray(1.0 - np.float32(strength * 0.5) * (x * x + y * y), dtype=np.float32)


def _blurred(image: NDArray[np.float32], optics: Optics) -> NDArray[np.float32]:
    if optics.blur_px > 0.2:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), optics.blur_px), dtype=np.float32)
    if optics.motion_px > 1:
        size = int(np.ceil(optics.motion_px)) | 1
        kernel = np.zeros((size, size), np.float32)
        centre = (size - 1) / 2
        dx, dy = np.cos(np.radians(optics.motion_deg)) * centre, np.sin(np.radians(optics.motion_deg)) * centre
        ends = [(round((centre + s * dx) * 16), round((centre + s * dy) * 16)) for s in (-1, 1)]
        cv2.line(kernel, ends[0], ends[1], 1.0, 1, cv2.LINE_AA, 4)
        image = np.asarray(cv2.filter2D(image, -1, kernel / max(float(kernel.sum()), 1e-6)), dtype=np.float32)
    if optics.sharpen > 0:
        soft = cv2.GaussianBlur(image, (0, 0), 1.2)
        image = np.asarray(image + np.float32(optics.sharpen) * (image - soft), dtype=np.float32)
    return image
