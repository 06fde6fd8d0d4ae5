"""Bushes and trees from above, over everything else."""

import cv2
import numpy as np

from transect.synth.drawing.canvas import Canvas
from transect.synth.drawing.noise import Field, sample, smoothstep, texel_for
from transect.synth.drawing.view import View
from transect.synth.land.cover import Cover, CoverObject

_BLOCK_PX = 256
_REACH = 1.6  # crowns reach this many radii at most


def paint_canopy(cover: Cover, things: list[CoverObject], canvas: Canvas, view: View, seed: int) -> Field:
    """Paint bushes and trees over everything; return their opacity, 0..1 a pixel."""
    hidden = np.zeros_like(canvas.z)
    bushes = [thing for thing in things if thing.kind == "bush"]
    # Most blocks of open country have no plant and are skipped.
    for top in range(0, view.height, _BLOCK_PX):
        for left in range(0, view.width, _BLOCK_PX):
            part = view.part(left, top, min(_BLOCK_PX, view.width - left), min(_BLOCK_PX, view.height - top))
            within = [bush for bush in bushes if _reaches(bush, part)]
            if within:
                where = (slice(top, top + part.height), slice(left, left + part.width))
                block = Canvas(canvas.albedo[where], canvas.z[where], canvas.relief[where])
                hidden[where] = _paint(cover, within, block, part, seed)
    return hidden


def _reaches(bush: CoverObject, view: View) -> bool:
    column, row = view.to_pixels(bush.x, bush.y)
    reach = _REACH * bush.size / view.gsd + 1
    return -reach < column < view.width + reach and -reach < row < view.height + reach


def _paint(cover: Cover, bushes: list[CoverObject], canvas: Canvas, view: View, seed: int) -> Field:
    shape, matrix = (view.height, view.width), view.matrix()
    mean = float(np.sqrt(cover.bush_radius[0] * cover.bush_radius[1]))
    lobes = sample("cloud", matrix, shape, texel_for(view.gsd * 0.2, mean * 0.03), seed + 0.11)
    clumps = sample("grain", matrix, shape, texel_for(view.gsd * 0.5, mean * 0.025), seed + 0.12)
    dome, depth, tint = _domes(bushes, cover, view, 0.6 * lobes + 0.5 * clumps)
    leaf_texel = texel_for(view.gsd * 0.3, cover.leaf_m)
    leaves = sample("grain", matrix, shape, leaf_texel, seed + 0.13)
    twigs = sample("fleck", matrix, shape, texel_for(view.gsd * 0.7, leaf_texel * 0.8), seed + 0.14)
    texture = 0.55 * leaves + 0.40 * clumps + 0.35 * twigs
    alpha = smoothstep(-0.12, 0.12, depth - np.float32(0.06) + np.float32(0.10 + 0.20 * cover.open_leaf) * texture)
    alpha *= depth > 0
    leaf, other = np.array(cover.leaf, np.float32), np.array(cover.leaf_other, np.float32)
    colour = leaf + (other - leaf) * np.clip(tint + 0.25 * lobes, 0, 1)[..., None]
    # Between the leaves the dark inside of the crown is visible.
    lit = 1.0 + np.float32(1.45 * cover.hollow) * (smoothstep(-1.3, 0.9, texture + np.float32(0.8) * depth) - 0.69)
    colour = colour * (lit * (1 + 0.15 * leaves).clip(0.5, 1.6))[..., None]
    shine = np.float32(0.30 * cover.gloss) * smoothstep(0.3, 1.8, leaves + 0.5 * twigs)
    colour += shine[..., None]
    relief = (
        np.float32(cover.roundness) * dome + np.float32(0.04 * mean) * clumps + np.float32(0.5 * leaf_texel) * leaves
    )
    canvas.albedo[...] += (colour - canvas.albedo) * alpha[..., None]
    # Single leaves cast no distinct shadows.
    side = int(min(max(0.16 * mean / view.gsd, 1), _BLOCK_PX / 4)) | 1
    height, share = cv2.blur(dome * alpha, (side, side)), cv2.blur(alpha, (side, side))
    canvas.z[...] += height - canvas.z * share
    canvas.relief[...] += (relief - canvas.relief) * alpha
    return alpha


def _domes(bushes: list[CoverObject], cover: Cover, view: View, lobes: Field) -> tuple[Field, Field, Field]:
    """Height of the crowns (m), depth inside their outline (0..1), and a colour number (0..1) a pixel."""
    shape = (view.height, view.width)
    dome = np.zeros(shape, np.float32)
    depth = np.full(shape, -1.0, np.float32)
    tint = np.zeros(shape, np.float32)
    for bush in bushes:
        column, row = view.to_pixels(bush.x, bush.y)
        radius = bush.size / view.gsd
        reach = _REACH * radius + 1
        y0, y1 = max(int(row - reach), 0), min(int(row + reach) + 1, shape[0])
        x0, x1 = max(int(column - reach), 0), min(int(column + reach) + 1, shape[1])
        if y0 >= y1 or x0 >= x1:
            continue
        part = (slice(y0, y1), slice(x0, x1))
        dy = ((np.arange(y0, y1, dtype=np.float32) + 0.5 - row) / radius) ** 2
        dx = ((np.arange(x0, x1, dtype=np.float32) + 0.5 - column) / radius) ** 2
        inside = 1.0 - np.sqrt(dy[:, None] + dx[None, :]) + np.float32(cover.ragged) * lobes[part]
        height = np.float32(bush.size * cover.bush_height * (0.7 + 0.6 * bush.dice[1]))
        h = height * np.sqrt(np.clip(inside * (2.0 - inside), 0.0, 1.0))
        higher = (inside > 0) & (h > dome[part])
        np.copyto(dome[part], h, where=higher)
        np.copyto(depth[part], inside, where=higher | ((inside > depth[part]) & (dome[part] == 0)))
        np.copyto(tint[part], np.float32(bush.dice[2]), where=higher)
    return dome, depth, tint
