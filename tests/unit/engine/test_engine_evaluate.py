from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toy_model import build_toy_package, write_toy_dataset
from transect.datasets import load_dataset
from transect.engine import DetectOptions, Detector, search_background, search_split
from transect.engine.boxes.heads import decode


@given(st.integers(0, 10_000), st.floats(0.05, 0.95), st.sampled_from([3, 300]))
def test_a_search_at_a_low_threshold_holds_that_at_a_higher_one(seed: int, conf: float, max_det: int) -> None:
    generator = np.random.default_rng(seed)
    # Sixty boxes that crowd one another, of two classes.
    output = generator.uniform(0, 1, (1, 6, 60)).astype(np.float32)
    output[0, :2] *= 40
    output[0, 2:4] = 8 + 8 * output[0, 2:4]
    low, high = (
        decode(output, "anchor-free", conf=at, iou=0.5, class_ids=None, max_det=max_det, multi_label=False)
        for at in (0.05, conf)
    )
    kept = low.take(low.scores > conf)
    assert np.array_equal(kept.xyxy, high.xyxy)
    assert np.array_equal(kept.scores, high.scores)
    assert np.array_equal(kept.class_ids, high.class_ids)


def test_a_split_searched_once_is_as_one_searched_again(tmp_path: Path) -> None:
    dataset = load_dataset(write_toy_dataset(tmp_path / "data"))
    split, names = dataset.splits["val"], dataset.names
    with Detector.open(build_toy_package(tmp_path / "package", shift=4), threads=1) as detector:
        low = search_split(detector, split, names, options=DetectOptions(tile="off", conf=0.05))
        high = DetectOptions(tile="off", conf=0.4)
        again = search_split(detector, split, names, options=high)
        # What stands in a label file by now does not count: the set was read when it was loaded.
        for path in split.labels:
            path.unlink(missing_ok=True)
        late = search_split(detector, split, names, options=high)
    assert low.at(0.4).validation_counts() == again.validation_counts()
    assert low.at(0.4).evaluation() == again.evaluation()
    assert late.evaluation() == again.evaluation()
    counts = low.at(0.4).validation_counts()
    assert (counts.images, counts.conf, counts.iou) == (8, 0.4, 0.5)
    assert set(counts.counts) == set(names)
    with pytest.raises(ValueError, match=r"searched at 0.4, so results at 0.05 are not known"):
        again.at(0.05)


def test_empty_ground_is_searched_in_tiles_and_measured_as_the_network_sees_it(tmp_path: Path) -> None:
    dataset = load_dataset(write_toy_dataset(tmp_path / "data"))
    images, names = dataset.splits["val"].images, dataset.names
    with Detector.open(build_toy_package(tmp_path / "package", shift=4), threads=1) as detector:
        side = detector.manifest.image_size
        options = DetectOptions(tile="auto", conf=0.4)
        found = search_background(detector, images, names, options=options)
        whole = search_split(detector, dataset.splits["val"], names, options=options)
        # Small pictures are fitted into the input, large ones cut into tiles of its side, or scaled to the input again.
        assert detector.network_scale(side, side // 2) == 1
        assert detector.network_scale(side // 2, side // 4) == 2
        assert detector.network_scale(3 * side, 2 * side) == 1
        assert detector.network_scale(3 * side, 2 * side, DetectOptions(tile="off")) == pytest.approx(1 / 3)
        assert detector.network_scale(3 * side, 2 * side, DetectOptions(tile=2 * side)) == 0.5
    sizes = dataset.splits["val"].sizes
    assert found.mpx == pytest.approx([w * h * (side / max(w, h)) ** 2 / 1e6 for w, h in sizes])
    assert (found.conf, found.iou, found.images) == (0.4, 0.5, len(images))
    # Every box is an alarm, whatever is labelled.
    for number, name in enumerate(names):
        expected = [int((boxes.class_ids == number).sum()) for boxes in whole.operating]
        assert found.alarms([name]).tolist() == expected
    assert sum(found.alarms(names)) > 0
