import base64
import io
import logging
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from observation_builders import frame, observations, path_of
from transect.census.ground.placement.frames import Frame, open_frame
from transect.census.report import thumbnails
from transect.census.report.thumbnails import Thumbnail, least_certain, most_crowded
from transect.imagery import Raster

NAMES = ("sheep", "goat")
PIXELS = 10_000_000


@pytest.fixture
def frames(tmp_path: Path) -> list[Frame]:
    """Three grey photos of 800 x 600."""
    found = []
    for number in range(3):
        path = tmp_path / f"photo{number}.png"
        Image.new("RGB", (800, 600), (90, 90, 90)).save(path)
        found.append(frame(path))
    return found


def picture(thumbnail: Thumbnail) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    data = base64.b64decode(thumbnail.uri.removeprefix("data:image/jpeg;base64,"))
    return np.array(Image.open(io.BytesIO(data)))


def coloured(pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> int:
    """Pixels that are not of the grey ground."""
    return int((np.ptp(pixels.astype(np.int64), axis=-1) > 60).sum())


def test_the_least_certain_come_first_and_say_what_they_are(frames: list[Frame]) -> None:
    seen = observations([(0, 0, 0.9, 400, 300), (1, 1, 0.31, 100, 100), (2, 0, 0.3, 795, 595), (2, 1, 0.5, 700, 100)])
    found = least_certain(frames, seen, NAMES, 3, PIXELS)
    assert [one.caption for one in found] == [
        "sheep 0.30 · photo2.png",
        "goat 0.31 · photo1.png",
        "goat 0.50 · photo2.png",
    ]
    assert all(picture(one).shape == (220, 220, 3) for one in found)
    assert all(coloured(picture(one)) > 100 for one in found)


def test_crowds_are_counted_by_species_and_each_crowd_is_shown_once(frames: list[Frame]) -> None:
    herd = [(300 + 20 * i, 300) for i in range(6)]
    boxes = [(0, 0, 0.9, x, y) for x, y in herd] + [(1, 0, 0.9, x, y) for x, y in herd[:5]] + [(1, 1, 0.8, 320, 330)]
    boxes += [(2, 1, 0.7, 100, 100)]
    seen = observations(boxes)
    # The second photo shows the herd of the first.
    seen.xy[6:12] = seen.xy[:6]
    found = most_crowded(frames, seen, NAMES, 10, PIXELS)
    assert [one.caption for one in found] == ["6 sheep · photo0.png", "1 goat · photo2.png"]
    assert picture(found[0]).shape == (360, 480, 3)


def test_of_mixed_crowds_the_most_frequent_is_named_first(frames: list[Frame]) -> None:
    seen = observations([(0, 0, 0.9, 300, 300), (0, 1, 0.9, 320, 300), (0, 1, 0.9, 340, 300), (0, 1, 0.9, 790, 20)])
    (found,) = most_crowded(frames, seen, NAMES, 1, PIXELS)
    assert found.caption == "2 goat, 1 sheep · photo0.png"


def test_a_photo_that_is_gone_leaves_a_placeholder_with_its_reason(
    frames: list[Frame], caplog: pytest.LogCaptureFixture
) -> None:
    seen = observations([(0, 0, 0.2, 400, 300), (1, 1, 0.3, 100, 100), (2, 1, 0.4, 100, 100)])
    path_of(frames[0]).unlink()
    path_of(frames[2]).write_bytes(path_of(frames[2]).read_bytes()[:200])
    with caplog.at_level(logging.WARNING):
        found = least_certain(frames, seen, NAMES, 3, PIXELS)
    assert [bool(one.uri) for one in found] == [False, True, False]
    assert [one.caption for one in found] == [
        "sheep 0.20 · photo0.png",
        "goat 0.30 · photo1.png",
        "goat 0.40 · photo2.png",
    ]
    assert "photo0.png" in found[0].problem
    assert len(caplog.records) == 2


def test_only_the_photos_that_are_shown_are_read_each_once(
    frames: list[Frame], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = list[str]()

    def counting(frame: Frame, *, max_pixels: int) -> AbstractContextManager[Raster]:
        read.append(frame.name)
        return open_frame(frame, max_pixels=max_pixels)

    monkeypatch.setattr(thumbnails, "open_frame", counting)
    seen = observations([(2, 0, 0.1, 50, 50), (1, 0, 0.9, 50, 50), (2, 0, 0.2, 500, 500)])
    assert len(least_certain(frames, seen, NAMES, 2, PIXELS)) == 2
    assert read == ["photo2.png"]


def test_nothing_seen_and_nothing_asked_for_give_no_pictures(frames: list[Frame]) -> None:
    assert least_certain(frames, observations([]), NAMES, 20, PIXELS) == []
    assert most_crowded(frames, observations([]), NAMES, 20, PIXELS) == []
    assert most_crowded(frames, observations([(0, 0, 0.5, 50, 50)]), NAMES, 0, PIXELS) == []


def test_boxes_without_a_place_are_shown_too(frames: list[Frame]) -> None:
    seen = observations([(0, 0, 0.5, 50, 50), (0, 0, 0.5, 70, 50)], xy=np.full((2, 2), np.nan))
    assert [one.caption for one in most_crowded(frames, seen, NAMES, 5, PIXELS)] == ["2 sheep · photo0.png"]
