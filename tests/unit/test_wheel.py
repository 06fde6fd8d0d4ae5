"""The wheel, which every image holds: the same source gives the same bytes."""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def wheel(source: Path, target: Path) -> Path:
    """Build the wheel of `source` as docker/Dockerfile does."""
    uv = str(Path(sys.executable).with_name("uv"))
    options = ["--wheel", "--no-build-isolation", "--python", sys.executable, "--out-dir", str(target)]
    subprocess.run([uv, "build", "--offline", "--quiet", *options, str(source)], check=True, timeout=300)
    (built,) = target.glob("*.whl")
    return built


def test_the_same_source_gives_the_same_bytes(tmp_path: Path) -> None:
    built = []
    for name in ("one", "two"):
        source = tmp_path / name
        source.mkdir()
        for file in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copyfile(ROOT / file, source / file)
        # Copied without their times and modes, which differ from one checkout to the next.
        shutil.copytree(
            ROOT / "services",
            source / "services",
            copy_function=shutil.copyfile,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
        built.append(wheel(source, tmp_path / f"{name}-dist"))
    first, second = built
    assert first.name == second.name
    assert first.read_bytes() == second.read_bytes()
