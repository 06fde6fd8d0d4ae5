from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transect.datasets import boxes_in_pixels, label_path, read_rows
from transect.errors import DatasetError

_fraction = st.floats(0.05, 0.95)
_row = st.tuples(st.integers(0, 4), _fraction, _fraction, st.floats(0.01, 0.1), st.floats(0.01, 0.1))


@pytest.fixture(scope="module")
def label_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("labels") / "a.txt"


@given(rows=st.lists(_row, max_size=20, unique=True), width=st.integers(1, 5000), height=st.integers(1, 5000))
def test_boxes_lie_where_the_rows_say(
    label_file: Path, rows: list[tuple[int, float, float, float, float]], width: int, height: int
) -> None:
    label_file.write_text("".join(" ".join(map(repr, row)) + "\n" for row in rows))
    classes, boxes = boxes_in_pixels(read_rows(label_file, classes=5), (width, height))
    expected = np.array(rows, dtype=float).reshape(-1, 5)
    assert classes.tolist() == expected[:, 0].astype(int).tolist()
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    inside = (np.abs(expected[:, 1:3] - 0.5) + expected[:, 3:5] / 2 <= 0.5).all(1)
    scale = np.array([width, height])
    np.testing.assert_allclose(centres[inside], (expected[:, 1:3] * scale)[inside], rtol=1e-4)
    assert (boxes >= 0).all()
    assert (boxes <= np.array([width, height, width, height])).all()


@pytest.mark.parametrize("content", [None, "", "\n  \n"])
def test_no_rows_mean_no_objects(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "a.txt"
    if content is not None:
        path.write_text(content)
    classes, boxes = boxes_in_pixels(read_rows(path), (10, 10))
    assert classes.shape == (0,)
    assert boxes.shape == (0, 4)


def test_polygons_become_their_boxes_and_repeated_rows_count_once(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("\ufeff1 0.1 0.2 0.5 0.2 0.5 0.6 0.1 0.6\n0 0.5 0.5 0.2 0.2\n0 0.5 0.5 0.2 0.2\n", encoding="utf-8")
    classes, boxes = boxes_in_pixels(read_rows(path), (100, 100))
    assert classes.tolist() == [1, 0]
    np.testing.assert_allclose(boxes, [[10, 20, 50, 60], [40, 40, 60, 60]], rtol=1e-5)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("0 0.5 0.5 0.2", "has 4"),
        ("0 0.5 0.5 0.2 0.2 0.9", "has 6"),
        ("sheep 0.5 0.5 0.2 0.2", "not a row of numbers"),
        ("2 0.5 0.5 0.2 0.2", "class 2 is out of range; classes are 0 to 1"),
        ("-1 0.5 0.5 0.2 0.2", "class -1"),
        ("0.5 0.5 0.5 0.2 0.2", "class 0.5"),
        ("nan 0.5 0.5 0.2 0.2", "class nan"),
        ("0 1.5 0.5 0.2 0.2", "coordinate 1.5"),
        ("0 0.5 nan 0.2 0.2", "coordinate nan"),
        ("0 0.5 0.5 -0.2 0.2", "coordinate -0.2"),
        ("0 0.5 0.5 0 0.2", "no area"),
        ("0 120 40 30 20", "coordinate 120"),
    ],
)
def test_a_bad_row_is_named_with_file_and_line(tmp_path: Path, row: str, said: str) -> None:
    path = tmp_path / "a.txt"
    path.write_text(f"0 0.5 0.5 0.1 0.1\n{row}\n")
    with pytest.raises(DatasetError) as caught:
        read_rows(path, classes=2)
    assert f"{path}, line 2" in str(caught.value)
    assert said in str(caught.value)


def test_binary_labels_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(DatasetError, match="cannot be read as text"):
        read_rows(path)


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("d/images/train/a.jpg", "d/labels/train/a.txt"),
        ("images/d/images/a.b.png", "images/d/labels/a.b.txt"),
        ("d/pictures/a.jpg", "d/pictures/a.txt"),
        ("d/images", "d/images.txt"),
    ],
)
def test_labels_lie_beside_images(image: str, label: str) -> None:
    assert label_path(Path("/") / image) == Path("/") / label
