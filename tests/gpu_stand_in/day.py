"""Inside an image: a model on the stand-in GPU, in use by many, a full GPU, a lost one, and what follows.

usage: python day.py PACKAGE
"""

import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from transect.engine import Detector

ORDERS = Path(os.environ["GPU_STAND_IN"])
LOST = "CUDA failure 700: an illegal memory access was encountered ; GPU=0 ; hostname=a ; file=/b.cc ; line=1"


def main(package: Path) -> None:
    """Write a line of JSON for each hour of the day: what computes, how many images were answered alike."""
    image = np.zeros((96, 160, 3), np.uint8)
    image[8:16, 16:24, 0] = 255
    with Detector.open(package, max_batch=8, cpu_fallback=True) as detector, ThreadPoolExecutor(12) as pool:

        def ask(_: int) -> list[str]:
            return [one.class_name for one in detector.detect(image).detections]

        def tell(hour: str) -> None:
            found = list(pool.map(ask, range(24)))
            batches = {json.loads(line).get("batch") for line in (ORDERS / "calls.jsonl").read_text().splitlines()}
            right = found.count(["sheep"])
            told = {"hour": hour, "backend": detector.backend, "right": right, "batches": sorted(batches - {None})}
            sys.stdout.write(json.dumps(told) + "\n")

        tell("start")
        (ORDERS / "room").write_text("2")
        tell("full")
        (ORDERS / "fault").write_text(LOST)
        tell("lost")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
