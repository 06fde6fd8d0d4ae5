"""The images are built on x86_64 and on arm64: nothing of docker/ names one of them, but for one table."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
_PROCESSOR = re.compile(r"amd64|x86[-_]64|x64|i[36]86|arm64|aarch64|--platform|platform:", re.IGNORECASE)
# It asks which one it runs on, since OpenVINO's wheels hold different files.
_ASKS = {"docker/detector/trim.py"}


def test_nothing_of_the_images_names_a_processor() -> None:
    files = [*ROOT.glob("compose*.yaml"), *(path for path in (ROOT / "docker").rglob("*") if path.suffix != ".pyc")]
    named = {
        path.relative_to(ROOT).as_posix(): found
        for path in files
        if path.is_file() and (found := _PROCESSOR.findall(path.read_text(encoding="utf-8")))
    }
    assert set(named) == _ASKS, named
