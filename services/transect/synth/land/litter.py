"""Rocks, dead wood and dark patches: objects below the animals, some of which are mistaken for them."""

import cv2
import numpy as np
from numpy.typing import NDArray

from transect.synth.drawing.canvas import Canvas, Sprite
from transect.synth.drawing.noise import Field, sample, smoothstep, texel_for
from transect.synth.drawing.view import View
from transect.synth.land.cover import Cover, CoverObject


def paint_litter(cover: Cover, things: list[CoverObject], canvas: Canvas, view: View) -> None:
    """Paint rocks, dead wood and patches, below the animals."""
    for kind, paint in (("patch", _patch), ("log", _log), ("rock", _rock)):
        for thing in things:
            if thing.kind == kind:
                paint(cover, thing, canvas, view)


def _outline(
    thing: CoverObject, view: View, points: int, rough: float, slim: float
) -> tuple[Field, int, int, NDArray[np.float64]]:
    """Soft mask of an irregular polygon, its top left pixel, and a matrix from its pixels to metres."""
    rng = np.random.default_rng(int(thing.dice[0] * 1e9))
    column, row = view.to_pixels(thing.x, thing.y)
    radius = thing.size / view.gsd
    half = int(np.ceil(1.35 * radius)) + 2
    left, top = int(np.floor(column)) - half, int(np.floor(row)) - half
    around = np.sort(rng.random(points)) * 2 * np.pi
    spread = 1.0 + rough * rng.uniform(-1, 1, points)
    shape = np.stack([np.cos(around) * spread, np.sin(around) * spread * slim], 1) * radius
    turn = thing.dice[1] * 2 * np.pi - np.radians(view.yaw_deg)
    spin = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    polygon = (shape @ spin + (column - left, row - top)) * 16
    mask = np.zeros((2 * half, 2 * half), np.uint8)
    cv2.fillPoly(mask, [polygon.astype(np.int32)], 255, cv2.LINE_AA, 4)
    matrix = view.matrix() @ np.array([[1.0, 0, left], [0, 1.0, top], [0, 0, 1]])
    return np.asarray(mask / np.float32(255), dtype=np.float32), left, top, matrix


def _rock(cover: Cover, thing: CoverObject, canvas: Canvas, view: View) -> None:
    mask, left, top, matrix = _outline(thing, view, 11, 0.22, 0.45 + 0.5 * thing.dice[2])
    worn = cv2.GaussianBlur(mask, (0, 0), max(thing.size / view.gsd * (0.04 + 0.12 * thing.dice[1]), 0.5))
    ragged = sample("mottle", matrix, mask.shape, texel_for(0.5 * view.gsd, thing.size * 0.02), thing.dice[3] * 733)
    mask = smoothstep(0.3, 0.7, worn + 0.06 * ragged)
    inside = cv2.GaussianBlur(mask, (0, 0), max(thing.size / view.gsd * 0.16, 0.5))
    facets = sample("cloud", matrix, mask.shape, thing.size * 0.02, thing.dice[3] * 997)
    lichen = sample("mottle", matrix, mask.shape, texel_for(view.gsd, 0.008), thing.dice[3] * 499)
    colour = np.array(cover.rock, np.float32) * np.float32(0.55 + 0.8 * thing.dice[3])
    shade = np.clip(1 + 0.22 * lichen + 0.22 * facets, 0.25, 1.7)
    z = thing.size * (0.35 + 0.5 * thing.dice[2]) * inside
    relief = thing.size * 0.45 * (inside + 0.14 * facets + 0.05 * lichen)
    canvas.lay(
        Sprite(
            left=left,
            top=top,
            alpha=mask,
            albedo=(colour * shade[..., None]).astype(np.float32),
            z=z,
            relief=relief.astype(np.float32),
        )
    )


def _patch(cover: Cover, thing: CoverObject, canvas: Canvas, view: View) -> None:
    mask, left, top, matrix = _outline(thing, view, 8, 0.4, 0.35 + 0.6 * thing.dice[2])
    soft = cv2.GaussianBlur(mask, (0, 0), max(thing.size / view.gsd * 0.22, 0.5))
    ragged = sample("mottle", matrix, mask.shape, texel_for(view.gsd, 0.02), thing.dice[3] * 997)
    alpha = smoothstep(0.35, 0.7, soft + 0.14 * ragged) * np.float32(0.5 + 0.5 * thing.dice[1])
    colour = np.array(cover.patch, np.float32) * np.float32(0.5 + thing.dice[3])
    shade = np.clip(1 + 0.25 * ragged, 0.3, 1.8)
    flat = np.zeros_like(mask)
    canvas.lay(
        Sprite(
            left=left,
            top=top,
            alpha=alpha,
            albedo=(colour * shade[..., None]).astype(np.float32),
            z=flat,
            relief=0.02 * ragged,
        )
    )


def _log(cover: Cover, thing: CoverObject, canvas: Canvas, view: View) -> None:
    rng = np.random.default_rng(int(thing.dice[0] * 1e9))
    column, row = view.to_pixels(thing.x, thing.y)
    radius = thing.size / view.gsd
    half = int(np.ceil(1.1 * radius)) + 3
    left, top = int(np.floor(column)) - half, int(np.floor(row)) - half
    mask = np.zeros((2 * half, 2 * half), np.uint8)
    turn = thing.dice[1] * np.pi - np.radians(view.yaw_deg)
    along = np.linspace(-1, 1, 6)
    bow = rng.normal(0, 0.06, 6).cumsum()
    spine = np.stack([along * np.cos(turn) - bow * np.sin(turn), along * np.sin(turn) + bow * np.cos(turn)], 1) * radius
    spine += np.array((column - left, row - top))
    girth = (0.05 + 0.13 * thing.dice[2]) / view.gsd
    for i in range(5):
        thick = max(1, round(girth * (1.25 - 0.22 * i)))
        cv2.line(mask, _fixed(spine[i]), _fixed(spine[i + 1]), 255, thick, cv2.LINE_AA, 4)
    for _ in range(int(thing.dice[3] * 4)):  # branches
        foot = spine[rng.integers(1, 5)]
        angle = turn + rng.choice((-1, 1)) * rng.uniform(0.4, 1.2)
        tip = foot + np.array([np.cos(angle), np.sin(angle)]) * radius * rng.uniform(0.2, 0.45)
        cv2.line(mask, _fixed(foot), _fixed(tip), 220, max(1, round(girth * 0.35)), cv2.LINE_AA, 4)
    alpha = np.asarray(mask / np.float32(255), dtype=np.float32)
    matrix = view.matrix() @ np.array([[1.0, 0, left], [0, 1.0, top], [0, 0, 1]])
    bark = sample("mottle", matrix, mask.shape, texel_for(view.gsd, 0.01), thing.dice[3] * 997)
    colour = np.array(cover.log, np.float32) * np.float32(0.4 + 0.9 * thing.dice[3])
    round_ = cv2.GaussianBlur(alpha, (0, 0), max(girth * 0.3, 0.5))
    albedo = colour * np.clip(1 + 0.25 * bark, 0.3, 1.6)[..., None]
    canvas.lay(
        Sprite(left=left, top=top, alpha=alpha, albedo=albedo.astype(np.float32), z=0.22 * alpha, relief=0.12 * round_)
    )


def _fixed(point: NDArray[np.float64]) -> tuple[int, int]:
    return int(point[0] * 16), int(point[1] * 16)
