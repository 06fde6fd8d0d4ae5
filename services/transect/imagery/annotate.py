"""Draw detections on an image."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

# Okabe and Ito's palette, distinguishable with any kind of colour vision
# (https://jfly.uni-koeln.de/color/), brightest against vegetation first.
PALETTE = ((240, 228, 66), (86, 180, 233), (230, 159, 0), (204, 121, 167), (0, 158, 115), (213, 94, 0), (0, 114, 178))


class Box(Protocol):
    """The attributes of a detection that annotate uses."""

    @property
    def box(self) -> tuple[float, float, float, float]:
        """(x1, y1, x2, y2) in pixels."""

    @property
    def score(self) -> float:
        """0..1."""

    @property
    def class_id(self) -> int:
        """Picks the colour."""

    @property
    def class_name(self) -> str:
        """Written beside the box."""


def annotate(
    image: NDArray[np.uint8], detections: Sequence[Box], *, line: int | None = None, labels: bool = True
) -> NDArray[np.uint8]:
    """A copy of an RGB image with boxes, each with its class name and score.

    `line` is the width of the lines in pixels (default: about a 400th of the longer side). Labels
    stay inside the image.
    """
    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    longer = max(picture.size)
    width = line or max(1, round(longer / 400))
    font = ImageFont.load_default(size=min(64, max(11, longer / 55)))
    # Best score last, so that it is on top.
    for detection in sorted(detections, key=lambda item: item.score):
        colour = PALETTE[detection.class_id % len(PALETTE)]
        x1, y1, x2, y2 = detection.box
        draw.rectangle((x1, y1, max(x1, x2), max(y1, y2)), outline=colour, width=width)
        if labels:
            _label(draw, font, f"{detection.class_name} {detection.score:.2f}", detection.box, colour)
    return np.array(picture, dtype=np.uint8)


def _label(
    draw: ImageDraw.ImageDraw,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    text: str,
    box: tuple[float, float, float, float],
    colour: tuple[int, int, int],
) -> None:
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    width, height = right - left + 4, bottom - top + 4
    page_width, page_height = draw.im.size if draw.im is not None else (0, 0)
    x = min(max(box[0], 0), max(page_width - width, 0))
    above = box[1] - height
    y = above if above >= 0 else min(box[3], max(page_height - height, 0))
    draw.rectangle((x, y, x + width, y + height), fill=colour)
    draw.text((x + 2 - left, y + 2 - top), text, font=font, fill=(0, 0, 0))
