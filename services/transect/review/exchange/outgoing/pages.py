"""What labelling tools are given: each photo of a batch once, with the boxes that it shows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from transect.review.exchange.batch import ReviewBatch, ShownBox
from transect.wording import count_of


@dataclass(frozen=True, kw_only=True)
class ToolPhoto:
    """One photo in a labelling tool. `copy` is the name of its copy below `photos/`; `number` counts from 1."""

    number: int
    photo_sha256: str
    image: str
    copy: str
    width: int
    height: int
    search: bool
    boxes: tuple[ShownBox, ...]


def tool_photos(
    batch: ReviewBatch, copies: Mapping[str, str], sizes: Mapping[str, tuple[int, int]]
) -> tuple[ToolPhoto, ...]:
    """The photos of a batch by name. `copies` has each image's copy, `sizes` each photo's width and height."""
    searched = {one.photo_sha256: one for one in batch.photos}
    images = {one.photo_sha256: one.image for one in batch.items}
    shown: dict[str, dict[str, ShownBox]] = {photo: {} for photo in images}
    for photo in batch.photos:
        shown[photo.photo_sha256].update({one.box_key: one for one in photo.boxes if not photo.blind})
    for box in batch.boxes:
        if not (box.photo_sha256 in searched and searched[box.photo_sha256].blind):
            shown[box.photo_sha256][box.box_key] = ShownBox(box.box_key, box.box, box.species)
    return tuple(
        ToolPhoto(
            number=number,
            photo_sha256=photo,
            image=images[photo],
            copy=copies[images[photo]],
            width=sizes[photo][0],
            height=sizes[photo][1],
            search=photo in searched,
            boxes=tuple(sorted(shown[photo].values(), key=lambda one: (one.box[1], one.box[0], one.box_key))),
        )
        for number, photo in enumerate(sorted(images, key=lambda key: (images[key], key)), start=1)
    )


def hidden_remarks(batch: ReviewBatch) -> Sequence[str]:
    """A sentence where boxes to decide lie in photos that are searched blind: a labelling tool would show them."""
    blind = {one.photo_sha256 for one in batch.photos if one.blind}
    hidden = sum(one.photo_sha256 in blind for one in batch.boxes)
    if not hidden:
        return ()
    return (
        f"Left out: {count_of(hidden, 'box', 'boxes')} to decide in photos that are searched blind; the format files "
        "has crops of such boxes.",
    )
