from pathlib import Path

import mounts
import pytest
from compose import ROOT, StackError
from mounts import Mounts


def write(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_a_training_set_is_mounted_read_only_at_its_own_path(tmp_path: Path) -> None:
    data = write(tmp_path / "set" / "data.yaml", "train: images/train\nval: images/val\nnames: [a]\n")
    seen = Mounts()
    assert seen.dataset(data) == str(data)
    assert seen.arguments() == ["--volume", f"{data.parent}:{data.parent}:ro"]


def test_a_data_yaml_does_not_decide_what_is_mounted(tmp_path: Path) -> None:
    # Its text comes from strangers: the socket of Docker in a comment was enough to mount /run.
    data = write(
        tmp_path / "set" / "data.yaml",
        "# /run/docker.sock\nnames: [/etc/passwd]\ndownload: /root\npath: .\ntrain: images\nval: no/such\nx: /var\n",
    )
    (data.parent / "images").mkdir()
    seen = Mounts()
    seen.dataset(data)
    assert list(seen.folders) == [data.parent]


@pytest.mark.parametrize(
    "text",
    [
        "val: {there}\n",
        "'val': '{there}'  # on the large disk\n",
        "val:\n  - images\n  - {there}\n",
        "val:\n- {there}\n",
        "val: [images,\n  '{there}']\n",
        "val: {there}/list.txt\n",
        "val: ../there\n",
        "path: {there}\nval: .\n",
        "path: ..\nval: there\n",
        "path: {there}\n",
        "val: link\n",
    ],
)
def test_data_outside_of_its_folder_is_mounted_only_on_request(tmp_path: Path, text: str) -> None:
    there = tmp_path / "the there"
    write(there / "list.txt")
    (tmp_path / "there").symlink_to(there)
    data = write(tmp_path / "set" / "data.yaml", text.format(there=there))
    (data.parent / "link").symlink_to(there)
    with pytest.raises(StackError, match=r"names (val|path): .*, outside of its folder.*DATA_ALSO="):
        Mounts().dataset(data)
    seen = Mounts()
    seen.dataset(data, [str(tmp_path / "there")])
    assert list(seen.folders) == [data.parent, there]


def test_more_folders_are_ones_that_are_there(tmp_path: Path) -> None:
    data = write(tmp_path / "set" / "data.yaml")
    with pytest.raises(StackError, match=r"DATA_ALSO=.*none is no folder"):
        Mounts().dataset(data, [str(tmp_path / "none")])


def test_a_data_yaml_that_is_a_link_into_another_folder_is_refused(tmp_path: Path) -> None:
    private = write(tmp_path / "private" / "key")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "data.yaml").symlink_to(private)
    with pytest.raises(StackError, match=r"is a link to .*key, in another folder"):
        Mounts().dataset(tmp_path / "set" / "data.yaml")


def test_a_file_that_is_no_text_is_left_to_the_trainer(tmp_path: Path) -> None:
    data = tmp_path / "set" / "photo.jpg"
    data.parent.mkdir()
    data.write_bytes(bytes(range(256)))
    assert Mounts().dataset(data) == str(data)


def test_a_folder_that_the_container_cannot_read_is_one_sentence(tmp_path: Path) -> None:
    data = write(tmp_path / "set" / "data.yaml")
    data.parent.chmod(0o700)
    with pytest.raises(StackError, match="closed to the container's user"):
        Mounts().dataset(data)
    own = Mounts()
    own.add(data.parent, as_caller=True)
    assert list(own.folders) == [data.parent]


def test_no_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(StackError, match=r"DATA=.*nothing\.yaml is no file"):
        Mounts().dataset(tmp_path / "nothing.yaml")


def test_a_colon_in_a_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="colon"):
        Mounts().dataset(write(tmp_path / "a:b" / "data.yaml"))


def test_a_recipe_of_the_project_needs_no_mount_and_another_one_does(tmp_path: Path) -> None:
    seen = Mounts()
    assert seen.file(str(ROOT / "configs" / "promotion.yaml")) == "configs/promotion.yaml"
    assert seen.folders == {}
    mine = write(tmp_path / "mine" / "recipe.yaml")
    assert seen.file(str(mine)) == str(mine)
    assert list(seen.folders) == [mine.parent]


def test_a_name_that_is_no_file_stays_a_name() -> None:
    assert Mounts().file("yolo11n") == "yolo11n"


def test_a_promotion_sees_the_data_of_earlier_trainings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounts, "REMEMBERED", tmp_path / "stack" / "mounts.txt")
    for name in ("one", "two", "one"):
        seen = Mounts()
        seen.dataset(write(tmp_path / name / "data.yaml"))
        seen.remember()
    (tmp_path / "two" / "data.yaml").unlink()
    (tmp_path / "two").rmdir()
    assert list(Mounts.remembered().folders) == [tmp_path / "one"]
    assert (tmp_path / "stack" / "mounts.txt").read_text(encoding="utf-8").count("one") == 1


def test_results_are_writable(tmp_path: Path) -> None:
    seen = Mounts()
    seen.add(tmp_path, writable=True, as_caller=True)
    assert seen.arguments() == ["--volume", f"{tmp_path}:{tmp_path}"]
