from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from transect.errors import InputError
from transect.synth import SPECIES, make_dataset
from transect.synth.domains import Domain, survey_background
from transect.synth.savanna import survey_cover


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest() for path in files}


def small(out: Path, *, seed: int = 3, processes: int = 1, domain: Domain = "survey") -> Path:
    return make_dataset(out, seed=seed, train=8, val=3, test=3, tile=192, domain=domain, processes=processes)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small(tmp_path_factory.mktemp("synth") / "set").parent


def test_the_folder_is_laid_out_for_ultralytics_and_can_be_moved(made: Path) -> None:
    description = yaml.safe_load((made / "data.yaml").read_text())
    assert description["names"] == {0: "sheep", 1: "buffalo", 2: "zebra"}
    assert "path" not in description
    for split, count in (("train", 8), ("val", 3), ("test", 3)):
        images = sorted((made / description[split]).glob("*.jpg"))
        labels = sorted((made / "labels" / split).glob("*.txt"))
        assert [image.stem for image in images] == [label.stem for label in labels]
        assert len(images) == count
        for path in images:
            with Image.open(path) as image:
                assert (image.size, image.mode) == ((192, 192), "RGB")


@pytest.mark.parametrize("domain", ["survey", "wide"])
def test_labels_are_boxes_within_their_picture(domain: Domain, tmp_path: Path) -> None:
    folder = small(tmp_path / "set", domain=domain).parent
    rows = [line.split() for path in folder.glob("labels/*/*.txt") for line in path.read_text().splitlines()]
    assert len(rows) > 4
    for row in rows:
        assert int(row[0]) in {kind.index for kind in SPECIES}
        x, y, width, height = (float(value) for value in row[1:])
        assert width > 0
        assert height > 0
        for centre, side in ((x, width), (y, height)):
            assert centre - side / 2 >= -1e-6
            assert centre + side / 2 <= 1 + 1e-6


def test_empty_ground_is_made_beside_the_splits_and_changes_none(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    make_dataset(out, seed=3, train=8, val=3, test=3, tile=192, background=4, processes=1)
    found = digests(out)
    ground = {name for name in found if name.startswith("images/background/")}
    assert len(ground) == len({found[name] for name in ground}) == 4
    assert not any(name.startswith("labels/background") for name in found)
    assert {name: found[name] for name in found if name not in ground | {"synth.json"}} == {
        name: digest for name, digest in digests(made).items() if name != "synth.json"
    }


def test_empty_ground_holds_as_many_decoys_as_a_survey() -> None:
    scene, view, _ = survey_background(np.random.default_rng(1), 320, (100.0, 0.0), 7)
    assert scene.animals == ()
    assert scene.cover == survey_cover()
    assert (view.width, view.height) == (320, 320)


@pytest.mark.parametrize("asked", [{"background": -1}, {"background": 2, "domain": "wide"}])
def test_empty_ground_that_no_survey_has_is_refused(asked: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r'of the domain "survey"'):
        make_dataset(tmp_path / "set", **asked)


def test_the_same_seed_gives_the_same_bytes_with_any_number_of_processes(made: Path, tmp_path: Path) -> None:
    again = small(tmp_path / "again", processes=2).parent
    assert digests(again) == digests(made)


def test_another_seed_gives_other_pictures(made: Path, tmp_path: Path) -> None:
    other = digests(small(tmp_path / "other", seed=4).parent)
    mine = digests(made)
    assert not {other[name] for name in other if name.endswith(".jpg")} & set(mine.values())


def test_no_picture_is_in_two_splits(made: Path) -> None:
    images = [digest for name, digest in digests(made).items() if name.endswith(".jpg")]
    assert len(set(images)) == len(images) == 14


def test_a_finished_set_is_left_and_a_changed_wish_is_made(tmp_path: Path) -> None:
    out = tmp_path / "set"
    make_dataset(out, train=1, val=1, test=1, tile=64)
    before = (out / "data.yaml").stat().st_mtime_ns
    make_dataset(out, train=1, val=1, test=1, tile=64)
    assert (out / "data.yaml").stat().st_mtime_ns == before
    make_dataset(out, train=2, val=1, test=1, tile=64)
    assert len(list((out / "images" / "train").iterdir())) == 2


def test_a_half_made_set_is_made_again(tmp_path: Path) -> None:
    """What is there without its mark was not made to the end by us: it must not be trusted, or replaced."""
    out = tmp_path / "set"
    make_dataset(out, train=1, val=1, test=1, tile=64)
    whole = digests(out)
    (out / "images" / "val" / "survey_00000.jpg").unlink()
    (out / "synth.json").unlink()
    with pytest.raises(InputError, match="not made by transect synth"):
        make_dataset(out, train=1, val=1, test=1, tile=64)
    (out / "synth.json").write_text("{")  # a mark that was never finished
    make_dataset(out, train=1, val=1, test=1, tile=64)
    assert digests(out) == whole


@pytest.mark.parametrize("bad", [{"train": 0}, {"seed": -1}, {"tile": 8}, {"domain": "moon"}])
def test_bad_parameters_are_refused(bad: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="needs at least 1 picture"):
        make_dataset(tmp_path / "set", **bad)  # type: ignore[arg-type]  # on purpose
    assert list(tmp_path.iterdir()) == []
