"""Read COCO JSON that a labelling tool wrote: boxes with their attributes."""

from collections.abc import Mapping
from typing import Any

from transect.errors import InputError
from transect.review.decisions.decision import PixelBox
from transect.review.exchange.incoming.marks import Mark, MarkedPhoto
from transect.review.exchange.incoming.source import Source, ToolImage, as_number, file_shown, marked_photos, text_of
from transect.review.exchange.terms import PHOTO_DONE


def coco_photos(document: Mapping[str, Any], source: Source) -> list[MarkedPhoto]:
    """The photos of a document. Raises InputError, naming image or annotation, for what cannot be read."""
    categories = {one.get("id"): text_of(one.get("name")) for one in _objects(document, "categories", source)}
    images = {one.get("id"): one for one in _objects(document, "images", source)}
    marks: dict[object, list[tuple[Mark, Mapping[str, Any]]]] = {key: [] for key in images}
    done = set()
    for one in _objects(document, "annotations", source):
        where = f"{source.path} annotation {one.get('id')}"
        if one.get("image_id") not in images:
            raise InputError(f"{where} is of image {one.get('image_id')}, which the file does not list.")
        if one.get("category_id") not in categories:
            raise InputError(f"{where} has the category {one.get('category_id')}, which the file does not list.")
        label = categories[one["category_id"]]
        if label.casefold() == PHOTO_DONE:
            done.add(one["image_id"])
            continue
        # Some tools keep what they do not know beside the known fields.
        inside = one.get("attributes")
        attributes = {**one, **(inside if isinstance(inside, Mapping) else {})}
        mark = Mark(
            where=where,
            label=label,
            box=_box(one, where),
            box_key=text_of(attributes.get("box_key")),
            verdict=text_of(attributes.get("verdict")),
            note=text_of(attributes.get("note")),
        )
        marks[one["image_id"]].append((mark, attributes))
    found = [
        ToolImage(
            where=f"{source.path} image {key}",
            name=file_shown(text_of(image.get("file_name"))),
            photo_sha256=text_of(image.get("photo_sha256")),
            hashes=[text_of(attributes.get("photo_sha256")) for _, attributes in marks[key]],
            width=image.get("width"),
            height=image.get("height"),
            done=key in done,
            marks=tuple(mark for mark, _ in marks[key]),
            batches=[attributes.get("batch") for _, attributes in marks[key]],
        )
        for key, image in images.items()
    ]
    info = document.get("info")
    return marked_photos(source, found, [info["batch"]] if isinstance(info, Mapping) and "batch" in info else [])


def _objects(document: Mapping[str, Any], name: str, source: Source) -> list[Mapping[str, Any]]:
    found = document.get(name)
    if not isinstance(found, list) or not all(isinstance(one, Mapping) for one in found):
        raise InputError(f"{source.path} is no COCO file: `{name}` is not a list of objects.")
    return found


def _box(annotation: Mapping[str, Any], where: str) -> PixelBox:
    bbox = annotation.get("bbox")
    if not isinstance(bbox, list) or len(bbox) != 4:
        raise InputError(f"{where} has no bbox of four numbers; draw rectangles alone.")
    x, y, width, height = (as_number(value, where) for value in bbox)
    return x, y, x + width, y + height
