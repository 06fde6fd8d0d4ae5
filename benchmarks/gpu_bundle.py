"""The benchmark of a GPU as one file of Python, for a machine without this project, a container or a network."""

import base64
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.gpu_place import BUNDLED, ROOT

_LEFT_OUT = {"__pycache__", ".pytest_cache"}

_LAUNCHER = '''\
#!/usr/bin/env python3
"""Transect's benchmark of one NVIDIA GPU, with all that it needs of the project inside. AGPL-3.0-or-later.

Needs Python 3.11 and numpy. Whatever else is missing, its steps say so and are skipped.
"""

import base64
import importlib.util
import io
import os
import sys
import tempfile
import zipfile


def main():
    if sys.version_info < (3, 11):
        raise SystemExit("This needs Python 3.11 or newer, and runs on %d.%d." % sys.version_info[:2])
    if importlib.util.find_spec("numpy") is None:
        raise SystemExit("This needs numpy, which is not installed here.")
    with tempfile.TemporaryDirectory(prefix="transect-gpu-") as folder:
        zipfile.ZipFile(io.BytesIO(base64.b64decode(CONTENT))).extractall(folder)
        sys.path[:0] = [folder, os.path.join(folder, "services")]
        from benchmarks.gpu import main as run

        return run()


CONTENT = """
@content@
"""

if __name__ == "__main__":
    sys.exit(main())
'''


def write_bundle(target: Path, model: Path, root: Path = ROOT) -> int:
    """Write the file, with the package, the benchmarks and the files of the folder `model`; returns its bytes."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path in _sources(root):
            archive.write(path, path.relative_to(root))
        for path in sorted(model.iterdir()):
            if path.is_file():
                archive.write(path, Path(BUNDLED.name) / path.name)
    content = base64.encodebytes(packed.getvalue()).decode("ascii").strip()
    target.write_text(_LAUNCHER.replace("@content@", content), encoding="ascii")
    return target.stat().st_size


def _sources(root: Path) -> Iterator[Path]:
    yield root / "LICENSE"
    for folder in ("services/transect", "benchmarks"):
        for path in sorted((root / folder).rglob("*")):
            if path.is_file() and not _LEFT_OUT.intersection(path.parts):
                yield path
