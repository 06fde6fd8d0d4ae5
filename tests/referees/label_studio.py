"""Read an export for Label Studio with label-studio-sdk, and what comes back from it; runs in .venv-referees.

Arguments: the folder of the export, with tasks.json, labels.xml and photos/, Label Studio's export of the annotated
tasks, and an empty folder, into which the SDK writes its COCO. Prints as JSON what it finds wrong and what it reads.
"""

import json
import sys
from pathlib import Path
from typing import Any

from label_studio_sdk.converter import Converter
from label_studio_sdk.label_interface import LabelInterface


def main(folder: Path, annotated: Path, out: Path) -> None:
    config = folder.joinpath("labels.xml").read_text(encoding="utf-8")
    interface = LabelInterface(config)
    interface.validate()
    wrong: list[Any] = []
    for task in json.loads(folder.joinpath("tasks.json").read_text(encoding="utf-8")):
        # The SDK's own check of a whole task forgets to hand the prediction on.
        if not interface.validate_task({"data": task["data"]}):
            wrong.append(task["data"])
        for prediction in task["predictions"]:
            wrong += interface.validate_prediction(prediction, return_errors=True)
    for task in json.loads(annotated.read_text(encoding="utf-8")):
        for annotation in task["annotations"]:
            if not interface.validate_annotation(annotation):
                wrong.append(annotation["id"])
    converter = Converter(config, str(folder), download_resources=False)
    read = [
        {"name": one["input"]["name"], "regions": one["output"].get("animal", [])}
        for one in converter.iter_from_json_file(str(annotated))
    ]
    converter.convert_to_coco(str(annotated), str(out), is_dir=False)
    print(json.dumps({"wrong": wrong, "labels": sorted(interface.get_control("animal").labels), "read": read}))


if __name__ == "__main__":
    main(*(Path(one) for one in sys.argv[1:4]))
