"""Batches of a spool's entries, and the id of the run in a package."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from transect.engine import (
    MLMODEL_FILE,
    hash_files,
    package_sha256,
    read_manifest,
    verify_package,
    write_manifest,
)
from transect.tracking.delivery import next_batch, write_run_id
from transect.tracking.spool import Entry

_SIZES = {"files/a/x.png": 10, "files/b/x.png": 10, "files/c/y.png": 10, "files/d/large.pt": 9 << 20}


def _metrics(step: int, count: int = 1) -> Entry:
    return Entry("metrics", f"m{step}", {"values": {f"m{i}": 0.0 for i in range(count)}, "step": step, "time": 0}, step)


def _file(kept: str, folder: str | None = None) -> Entry:
    return Entry("artifact", kept, {"file": kept, "folder": folder}, 0)


def _other(kind: str) -> Entry:
    return Entry(kind, kind, {"values": {}}, 0)


_MANY = [_file(f"files/{number}/{number}.png") for number in range(9)]


@pytest.mark.parametrize(
    ("entries", "together"),
    [
        ([], 0),
        ([_metrics(1), _metrics(2), _metrics(3)], 3),
        ([_metrics(1, 600), _metrics(2, 400), _metrics(3)], 2),
        ([_metrics(1, 1000), _metrics(2)], 1),
        ([_metrics(1), _other("tags"), _metrics(2)], 1),
        ([_other("tags"), _other("tags")], 1),
        ([_other("damaged"), _metrics(1)], 1),
        ([_file("files/a/x.png"), _file("files/c/y.png")], 2),
        ([_file("files/a/x.png"), _file("files/b/x.png")], 1),
        ([_file("files/a/x.png", "one"), _file("files/b/x.png", "two")], 2),
        ([_file("files/a/x.png"), _file("files/d/large.pt"), _file("files/c/y.png")], 1),
        ([_file("files/d/large.pt"), _file("files/c/y.png")], 1),
        ([_file("files/a/x.png"), _file("files/gone/z.png"), _file("files/c/y.png")], 1),
        ([_file("files/gone/z.png"), _file("files/c/y.png")], 1),
        (_MANY, 8),
    ],
)
def test_only_what_has_no_order_goes_together(entries: list[Entry], together: int) -> None:
    sizes: dict[str, Any] = {**_SIZES, **{entry.data["file"]: 10 for entry in _MANY}}
    assert next_batch(entries, lambda entry: sizes.get(entry.data["file"])) == entries[:together]


def _unnamed(package: Path, target: Path, schema: int) -> Path:
    """A package as it waits for the id of its run; schema 2 did not list MLmodel."""
    shutil.copytree(package, target)
    (target / MLMODEL_FILE).write_text("flavors: {}\nrun_id: null\n")
    manifest = read_manifest(target)
    names = [*manifest.files, *([MLMODEL_FILE] if schema == 3 else [])]
    named = {"schema_version": schema, "files": hash_files(target, names)}
    write_manifest(target, manifest.model_copy(update=named))
    return target


@pytest.mark.parametrize("schema", [2, 3])
def test_a_package_that_learns_its_run_still_vouches_for_every_file(
    dot_package: Path, tmp_path: Path, schema: int
) -> None:
    package = _unnamed(dot_package, tmp_path / "package", schema)
    write_run_id(package, "0123")
    manifest = verify_package(package)
    assert (manifest.schema_version, manifest.run_id) == (3, "0123")
    assert MLMODEL_FILE in manifest.files
    assert yaml.safe_load((package / MLMODEL_FILE).read_text())["run_id"] == "0123"
    before = package_sha256(package)
    write_run_id(package, "4567")
    assert package_sha256(package) == before


@pytest.mark.parametrize("killed_in", ["MLmodel", "package.json"])
def test_a_package_that_was_half_named_is_mended(
    dot_package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_in: str
) -> None:
    package = _unnamed(dot_package, tmp_path / "package", 3)
    real = Path.replace

    def replace(self: Path, target: Path) -> Path:
        if target.name == killed_in:
            # What kill -9 leaves: the file that was to take the place, under its own name.
            shutil.copy(self, self.with_name(f".{target.stem}.abcdefgh.part{target.suffix}"))
            raise KeyboardInterrupt
        return real(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", replace)
        with pytest.raises(KeyboardInterrupt):
            write_run_id(package, "0123")
    assert [path.name for path in package.iterdir() if "part" in path.name] != []
    write_run_id(package, "0123")
    assert verify_package(package).run_id == "0123"
