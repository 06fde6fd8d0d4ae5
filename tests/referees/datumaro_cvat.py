"""Read an export for CVAT with datumaro, edit it as a person would, and write it back; runs in .venv-referees.

Arguments: a folder with images/ and annotations.xml, an empty folder, and the edits as JSON: `reject`, `copy` and
`relabel` each name a box by its key. Prints what was read as JSON.
"""

import json
import sys
from pathlib import Path
from typing import Any

from datumaro.components.annotation import AnnotationType, Bbox, Label
from datumaro.components.dataset import Dataset

SHIFT_PX = 60


def facts(item: Any, labels: list[str]) -> dict[str, Any]:
    return {
        "name": item.id,
        "size": list(item.media.size),
        "boxes": [
            {"label": labels[one.label], "box": list(one.points), "attributes": dict(one.attributes)}
            for one in item.annotations
            if one.type == AnnotationType.bbox
        ],
    }


def edited(item: Any, labels: list[str], edits: dict[str, str]) -> list[Any]:
    made = [Label(labels.index("photo done"))]
    # From the last to the first, so that every number is another one.
    for one in reversed([one for one in item.annotations if one.type == AnnotationType.bbox]):
        key = one.attributes["box_key"]
        if key == edits["reject"]:
            continue
        label = labels.index("cow") if key == edits["relabel"] else one.label
        x, y, width, height = one.get_bbox()
        if key == edits["copy"]:
            made.append(Bbox(x + SHIFT_PX, y, width, height, label=label, id=700, attributes=dict(one.attributes)))
        made.append(Bbox(x, y, width, height, label=label, id=800 + len(made), attributes=dict(one.attributes)))
    return made


def main(folder: Path, out: Path, edits: dict[str, str]) -> None:
    read = Dataset.import_from(str(folder), "cvat")
    labels = [one.name for one in read.categories()[AnnotationType.label]]
    print(json.dumps({"labels": labels, "items": [facts(item, labels) for item in read]}))
    changed = [item.wrap(annotations=edited(item, labels, edits)) for item in reversed(list(read))]
    whole = Dataset.from_iterable(changed, categories=read.categories())
    whole.export(str(out / "cvat"), "cvat", reindex=True)
    whole.export(str(out / "coco"), "coco_instances")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3]))
