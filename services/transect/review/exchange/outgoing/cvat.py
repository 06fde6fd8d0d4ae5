"""A batch as XML of CVAT (CVAT for images 1.1), with the box's key and the verdict as declared attributes."""

import json
from collections.abc import Sequence

from transect.pages.svg import Markup, element
from transect.review.exchange.batch import ReviewBatch
from transect.review.exchange.outgoing.pages import ToolPhoto
from transect.review.exchange.terms import NOT_SET, PHOTO_DONE, VERDICT_VALUES

# The server drops an attribute that no label declares.
_ATTRIBUTES = (
    ("box_key", "text", "", ("",)),
    ("batch", "text", "", ("",)),
    ("verdict", "select", NOT_SET, VERDICT_VALUES),
)


def cvat_xml(batch: ReviewBatch, photos: Sequence[ToolPhoto]) -> str:
    """The photos and boxes of a batch; the label `photo done` is a tag of the whole photo."""
    declared = [_attribute(*one) for one in _ATTRIBUTES]
    labels = [_label(name, "rectangle", declared) for name in batch.species]
    labels.append(_label(PHOTO_DONE, "tag", ()))
    task = element(
        "task",
        element("name", f"{batch.survey_name}, batch {batch.batch}"),
        element("size", str(len(photos))),
        element("mode", "annotation"),
        element("overlap", "0"),
        element("labels", *labels),
    )
    parts = [element("version", "1.1"), element("meta", task), *(_image(batch, one) for one in photos)]
    text = element("annotations", Markup("\n" + "\n".join(parts) + "\n"))
    return f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'


def labels_json(batch: ReviewBatch) -> str:
    """The labels as CVAT takes them in the tab Raw of a new task."""
    attributes = [
        {"name": name, "mutable": False, "input_type": kind, "default_value": default, "values": list(values)}
        for name, kind, default, values in _ATTRIBUTES
    ]
    labels = [{"name": name, "type": "rectangle", "attributes": attributes} for name in batch.species]
    labels.append({"name": PHOTO_DONE, "type": "tag", "attributes": []})
    return json.dumps(labels, ensure_ascii=False, indent=1) + "\n"


def _label(name: str, kind: str, attributes: Sequence[Markup]) -> Markup:
    return element("label", element("name", name), element("type", kind), element("attributes", *attributes))


def _attribute(name: str, kind: str, default: str, values: Sequence[str]) -> Markup:
    return element(
        "attribute",
        element("name", name),
        element("mutable", "False"),
        element("input_type", kind),
        element("default_value", default),
        element("values", "\n".join(values)),
    )


def _image(batch: ReviewBatch, photo: ToolPhoto) -> Markup:
    boxes = [
        element(
            "box",
            element("attribute", one.box_key, name_="box_key"),
            element("attribute", str(batch.batch), name_="batch"),
            element("attribute", NOT_SET, name_="verdict"),
            label=one.species,
            source="file",
            occluded="0",
            **{side: f"{value:.2f}" for side, value in zip(("xtl", "ytl", "xbr", "ybr"), one.box, strict=True)},
            z_order="0",
        )
        for one in photo.boxes
    ]
    inside = Markup("\n" + "\n".join(boxes) + "\n") if boxes else ""
    return element(
        "image",
        *([inside] if inside else []),
        id=str(photo.number - 1),
        name_=photo.copy,
        width=str(photo.width),
        height=str(photo.height),
    )
