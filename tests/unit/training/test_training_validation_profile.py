"""The validation profile of a package: image statistics, the network's features, and detections."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tiny_datasets import write_spots_dataset
from transect.datasets import load_dataset
from transect.engine import (
    Boxes,
    DetectOptions,
    Detector,
    FeatureSpace,
    SearchedSplit,
    Truth,
    ValidationProfile,
    read_profile,
    search_split,
    write_profile,
)
from transect.engine.profile.appearance import STATISTICS, appearance, sample_tiles
from transect.engine.profile.network_features import NetworkFeatures
from transect.errors import PackageError
from transect.training.packaging.validation_profile import build_profile, feature_space

ALL = np.ones(60, bool)


def stripes(width: int, size: int = 64) -> NDArray[np.uint8]:
    columns = (np.arange(size) // width % 2 * 100 + 80).astype(np.uint8)
    return np.repeat(np.repeat(columns[None, :, None], size, 0), 3, 2)


def test_statistics_are_what_their_names_say() -> None:
    even = np.zeros((40, 60, 3), np.uint8)
    even[:] = (102, 51, 153)
    found = dict(zip(STATISTICS, appearance(even), strict=True))
    assert found["brightness"] == pytest.approx(0.4)
    assert found["red against green"] == pytest.approx(0.2)
    assert found["blue against green"] == pytest.approx(0.4)
    assert found["contrast"] == pytest.approx(math.log(1e-3), abs=1e-3)
    assert found["detail of 1 pixel"] == pytest.approx(math.log(1e-4), abs=1e-3)
    fine, coarse = (dict(zip(STATISTICS, appearance(stripes(width)), strict=True)) for width in (1, 8))
    assert fine["detail of 1 pixel"] > coarse["detail of 1 pixel"] + 1
    assert fine["detail of 8 pixels"] < coarse["detail of 8 pixels"] - 1
    assert appearance(np.full((1, 1, 3), 9, np.uint8)).shape == (len(STATISTICS),)


def test_a_few_tiles_speak_for_an_image() -> None:
    assert sample_tiles(1) == [0]
    assert sample_tiles(48) == [24]
    assert sample_tiles(64) == [16, 48]
    assert len(sample_tiles(10_000)) == 64
    assert len(set(sample_tiles(10_000))) == 64
    assert max(sample_tiles(10_000)) < 10_000


def test_features_are_the_means_of_what_reaches_the_head(make_package: Callable[..., Path]) -> None:
    import torch
    from ultralytics.models import YOLO

    package = make_package("yolo11n", image_size=64, lively=True)
    square = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    seen: list[torch.Tensor] = []
    network: Any = YOLO(package / "weights.pt").model
    network.float().eval()
    head = network.model[-1]
    hook = head.register_forward_pre_hook(lambda _, given: seen.extend(given[0]))
    with torch.no_grad():
        network(torch.from_numpy(square).permute(2, 0, 1)[None].float() / 255)
    hook.remove()
    expected = np.concatenate([one.mean(dim=(2, 3)).numpy().ravel() for one in seen])
    features = NetworkFeatures.open(package / "model.onnx", 64)
    assert features is not None
    found = features.describe(square)
    assert found.shape == expected.shape == (64 + 128 + 256,)
    np.testing.assert_allclose(found, expected, rtol=1e-2, atol=2e-3)
    assert np.array_equal(found, features.describe(square))


def test_a_network_without_named_layers_has_no_features(dot_package: Path) -> None:
    assert NetworkFeatures.open(dot_package / "model.onnx", 64) is None
    with Detector.open(dot_package) as detector:
        assert detector.profile is None
        statistics, features = detector.sample_appearance(np.full((64, 200, 3), 51, np.uint8))
    assert features.shape == (1, 0)
    assert statistics[0, 0] == pytest.approx(0.2)


def test_padding_is_no_part_of_a_look(dot_package: Path) -> None:
    with Detector.open(dot_package) as detector:
        statistics, _ = detector.sample_appearance(np.full((20, 60, 3), 255, np.uint8), DetectOptions(tile="off"))
        assert statistics[0, 0] == pytest.approx(1.0)
        assert detector.network_scale(32, 16) == 2.0
        assert detector.network_scale(640, 480) == 1.0
        assert detector.network_scale(640, 480, DetectOptions(tile=128)) == 0.5
        assert detector.network_scale(640, 480, DetectOptions(tile="off")) == 0.1


def test_directions_are_those_in_which_images_differ() -> None:
    rng = np.random.default_rng(0)
    strong = rng.normal(size=(60, 1)) @ np.array([[1.0, 1.0, 0.0, 0.0]])
    features = strong + 0.1 * rng.normal(size=(60, 4)) + 7
    space = feature_space(features, ALL[: len(features)])
    assert space is not None
    assert len(space.components) == 4
    assert abs(np.dot(space.components[0], [0.5**0.5, 0.5**0.5, 0, 0])) > 0.95
    projected = space.project(features)
    assert projected.mean(axis=0) == pytest.approx(np.zeros(4), abs=1e-4)
    assert np.abs(np.corrcoef(projected.T) - np.eye(4)).max() < 1e-3
    assert len(getattr(feature_space(features[:13], ALL[:13]), "components", ())) == 2
    assert feature_space(features[:5], ALL[:5]) is None
    assert feature_space(np.ones((60, 3)), ALL) is None
    assert feature_space(np.empty((60, 0)), ALL) is None


def test_another_mean_of_the_training_images_is_no_direction() -> None:
    rng = np.random.default_rng(1)
    features = rng.normal(size=(80, 3)) * (3, 1, 1)
    first = np.arange(80) < 20
    features[~first, 1] += 50
    space = feature_space(features, first)
    assert space is not None
    assert abs(space.mean[1]) < 1
    assert space.scale == pytest.approx((3, 1, 1), rel=0.3)


def test_a_profile_is_built_written_and_read(dot_package: Path, tmp_path: Path) -> None:
    dataset = load_dataset(write_spots_dataset(tmp_path / "spots", images=4, size=32))
    split = dataset.splits["val"]
    with Detector.open(dot_package) as detector:
        searched = search_split(detector, split, dataset.names)
        profile = build_profile(detector, dataset, searched, max_pixels=10**6)
    assert profile.space is None
    assert [row[0] for row in profile.looks] == list(range(len(split.images)))
    assert profile.mpx == pytest.approx([64 * 64 / 1e6] * len(split.images))  # scaled up to the network's input
    assert profile.mean_appearance_by_image().shape == (len(split.images), len(STATISTICS))
    assert len(profile.training_looks) == len(dataset.splits["train"].images)
    assert set(profile.detections) == set(dataset.names)
    write_profile(tmp_path, profile)
    assert read_profile(tmp_path) == profile


def test_what_was_found_is_kept_with_its_size_and_whether_it_was_right(dot_package: Path, tmp_path: Path) -> None:
    dataset = load_dataset(write_spots_dataset(tmp_path / "spots", images=1, size=128))
    found = Boxes(
        np.array([[0, 0, 20, 20], [50, 50, 60, 90]], np.float32), np.array([0.9, 0.4], np.float32), np.array([1, 1])
    )
    truth = Truth(np.array([[1, 1, 20, 20]], np.float64), np.array([1]))
    searched = SearchedSplit(
        names=dataset.names,
        curve=(found,),
        operating=(found,),
        truths=(truth,),
        conf=0.25,
        iou=0.5,
        sizes=((128, 128),),
    )
    with Detector.open(dot_package) as detector:
        profile = build_profile(detector, dataset, searched, max_pixels=10**6)
    # The network sees half of the picture's size.
    assert profile.detections[dataset.names[1]] == ((0, 0.9, 10.0, 1), (0, 0.4, 10.0, 0))
    assert profile.detections[dataset.names[0]] == ()


def test_a_look_of_several_tiles_is_their_mean() -> None:
    look = (0.0,) * 7
    profile = ValidationProfile(
        conf=0.2, iou=0.5, mpx=(1, 1, 1), looks=((0, 2, *look), (2, 1, *look), (0, 4, *look)), space=None, detections={}
    )
    assert profile.mean_appearance_by_image()[:, 0].tolist() == [3, 1]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"looks": [[0, 1.0]]}, "a row of looks does not have 9 numbers"),
        ({"training_looks": [[1.0]]}, "a row of training_looks does not have 8 numbers"),
        ({"looks": [[7, *[0.5] * 8]]}, "an image number is not among the 2"),
        ({"detections": {"elk": [[2, 0.5, 9.0, 1]]}}, "an image number is not among the 2"),
        ({"detections": {"elk": [[0, 0.5, 9.0, 2]]}}, "less than or equal to 1"),
        ({"conf": "high"}, "valid number"),
        ({"more": 1}, "not permitted"),
    ],
)
def test_a_bad_profile_is_one_sentence(change: dict[str, object], sentence: str, tmp_path: Path) -> None:
    good: dict[str, object] = {
        "conf": 0.2, "iou": 0.5, "mpx": [1.0, 1.0], "looks": [[0, *[0.5] * 8]], "space": None, "detections": {},
    }  # fmt: skip
    path = tmp_path / "validation_profile.json"
    path.write_text(json.dumps(good))
    read_profile(tmp_path)
    path.write_text(json.dumps(good | change))
    with pytest.raises(PackageError, match=rf"validation_profile\.json is not usable: .*{sentence}") as caught:
        read_profile(tmp_path)
    assert "\n" not in str(caught.value)
    path.write_text("{")
    with pytest.raises(PackageError, match="is not valid JSON"):
        read_profile(tmp_path)
    path.unlink()
    with pytest.raises(PackageError, match="cannot be read"):
        read_profile(tmp_path)


def test_a_space_is_whole() -> None:
    with pytest.raises(ValueError, match="differ in length"):
        FeatureSpace(mean=(0.0, 1.0), scale=(1.0, 1.0), components=((1.0,),))
