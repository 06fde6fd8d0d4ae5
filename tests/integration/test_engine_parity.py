"""The engine against Ultralytics itself, on real pictures: same boxes, same scores, same average precision.

`pytest tests/integration/test_engine_parity.py --photos FOLDER` compares on more pictures.
"""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_bipartite_matching

from transect.datasets import load_dataset
from transect.engine import DetectOptions, Detector, search_split
from transect.engine.box_reader import box_reader
from transect.engine.boxes.overlaps import iou_matrix
from transect.engine.tiling import plan_search
from transect.imagery import IMAGE_SUFFIXES, as_raster, decode_image

SIZE = 320
SMALL = 160
MODELS = [("yolov8n", "anchor-free"), ("yolo11n", "anchor-free"), ("yolo26n", "anchor-free"), ("yolo26n", "end-to-end")]


@pytest.fixture
def assets() -> Path:
    return Path(pytest.importorskip("ultralytics").__file__).parent / "assets"


@pytest.fixture
def quiet_ultralytics(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[Path], Any]]:
    """Loads a package's weights in Ultralytics."""
    torch = pytest.importorskip("torch")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # many threads for a small picture only wait for one another on a busy machine
    monkeypatch.setenv("YOLO_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("YOLO_AUTOINSTALL", "false")
    models = pytest.importorskip("ultralytics.models")

    def load(package: Path) -> Any:
        return models.YOLO(package / "weights.pt")

    yield load
    torch.set_num_threads(threads)


def their_boxes(model: Any, image: NDArray[np.uint8], end_to_end: bool, **options: Any) -> NDArray[np.float64]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # their deprecations are not what this is about
        (result,) = model.predict(
            np.ascontiguousarray(image[:, :, ::-1]),
            imgsz=SIZE,
            rect=False,
            max_det=300 if end_to_end else 5000,
            verbose=False,
            save=False,
            device="cpu",
            **({"nms": False} if end_to_end else {}),
            **options,
        )
    boxes: NDArray[np.float64] = result.boxes.data.cpu().numpy().astype(np.float64)
    return boxes


@pytest.fixture
def photos(assets: Path, request: pytest.FixtureRequest) -> list[Path]:
    """Ultralytics' two pictures, and those of --photos."""
    folder = request.config.getoption("--photos")
    more = sorted(path for path in Path(folder).iterdir() if path.suffix.lower() in IMAGE_SUFFIXES) if folder else []
    return [assets / "bus.jpg", assets / "zidane.jpg", *more]


class Comparison:
    """Boxes (n, 6) of x1, y1, x2, y2, score, class of two programs, paired one to one."""

    def __init__(self) -> None:
        self.theirs = self.lonely = 0
        self.scores: list[float] = []

    def add(self, ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> None:
        """Count the boxes without a partner within 1 px and 0.005 of score."""
        fits = np.abs(ours[:, None, :4] - theirs[None, :, :4]).max(axis=2) <= 1.0
        fits &= ours[:, None, 5] == theirs[None, :, 5]
        fits &= np.abs(ours[:, None, 4] - theirs[None, :, 4]) <= 0.005
        partners = maximum_bipartite_matching(csr_matrix(fits), perm_type="column")
        self.lonely += len(ours) + len(theirs) - 2 * int((partners >= 0).sum())
        self.theirs += len(theirs)
        self.scores += theirs[:, 4].tolist()

    def check(self, least: int) -> None:
        """A box at a threshold may fall to either side by rounding; no more than one in a hundred is."""
        assert self.theirs >= least
        assert np.ptp(self.scores) > 0.2
        assert self.lonely <= max(1, self.theirs // 100)


def rows(xyxy: NDArray[Any], scores: NDArray[Any], class_ids: NDArray[Any]) -> NDArray[np.float64]:
    return np.column_stack([xyxy, scores, class_ids]).astype(np.float64)


@pytest.mark.parametrize(("architecture", "head_kind"), MODELS)
@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_whole_images_agree(
    make_package: Callable[..., Path],
    quiet_ultralytics: Callable[[Path], Any],
    photos: list[Path],
    architecture: str,
    head_kind: str,
    backend: str,
) -> None:
    package = make_package(architecture, image_size=SIZE, head_kind=head_kind, lively=True)
    model = quiet_ultralytics(package)
    with Detector.open(package, backend=backend, precision="fp32") as detector:
        for photo in photos:
            image = decode_image(photo, max_pixels=10**8)
            theirs = their_boxes(model, image, head_kind == "end-to-end", conf=0.3, iou=0.45)
            options = DetectOptions(conf=0.3, iou=0.45, tile="off", max_det=5000)
            (ours,), _ = detector.detect_boxes(image, [options])
            comparison = Comparison()
            comparison.add(rows(ours.xyxy, ours.scores, ours.class_ids), theirs)
            comparison.check(least=20)


@pytest.mark.parametrize(("architecture", "head_kind"), MODELS)
@pytest.mark.parametrize("side", [SIZE, 400])
def test_tiles_agree(
    make_package: Callable[..., Path],
    quiet_ultralytics: Callable[[Path], Any],
    photos: list[Path],
    architecture: str,
    head_kind: str,
    side: int,
) -> None:
    """What the engine finds in each tile before stitching is what Ultralytics finds in that crop."""
    package = make_package(architecture, image_size=SIZE, head_kind=head_kind, lively=True)
    model = quiet_ultralytics(package)
    options = DetectOptions(conf=0.3, iou=0.45, tile=side, overlap=64, max_det=5000)
    with Detector.open(package, precision="fp32") as detector:
        for photo in photos:
            image = decode_image(photo, max_pixels=10**8)
            plan = plan_search(image.shape[1], image.shape[0], options, SIZE)
            # Some of every picture, its last tile or a neighbour among them.
            tiles = plan.tiles[:: max(1, len(plan.tiles) // 8)]
            readers = [box_reader(detector.manifest, options, None)]
            comparison = Comparison()
            parts = detector._search_tiles(as_raster(image), replace(plan, tiles=tiles), readers, None, len(tiles))
            for tile, part in zip(tiles, parts, strict=True):
                crop = image[tile.y : tile.bottom, tile.x : tile.right]
                theirs = their_boxes(model, crop, head_kind == "end-to-end", conf=0.3, iou=0.45)
                theirs[:, :4] += [tile.x, tile.y, tile.x, tile.y]
                (ours,) = part.boxes
                comparison.add(rows(ours.xyxy, ours.scores, ours.class_ids), theirs)
            comparison.check(least=20)


@pytest.fixture
def labelled(make_package: Callable[..., Path], assets: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A package, and a data set that it is neither perfect nor hopeless on: its own boxes, moved, and some left out."""
    package = make_package("yolo11n", image_size=SMALL, lively=True)
    rng = np.random.default_rng(3)
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    pictures = [decode_image(assets / name, max_pixels=10**8) for name in ("bus.jpg", "zidane.jpg")]
    with Detector.open(package) as detector:
        for index in range(12):
            source = pictures[index % 2]
            y, x = (int(rng.integers(0, size - SMALL)) for size in source.shape[:2])
            crop = np.ascontiguousarray(source[y : y + SMALL, x : x + SMALL])
            Image.fromarray(crop).save(tmp_path / "images" / f"{index}.png")
            found = detector.detect(crop, options=DetectOptions(conf=0.6, iou=0.3, tile="off")).detections
            rows = []
            for detection in found:
                if rng.random() < 0.6:
                    box = np.array(detection.box) + rng.normal(0, 2, 4)
                    x1, x2 = np.sort(box[0::2].clip(0, SMALL))
                    y1, y2 = np.sort(box[1::2].clip(0, SMALL))
                    row = np.array([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]) / SMALL
                    if row[2:].min() > 0.01:
                        rows.append(f"{detection.class_id} {' '.join(f'{value:.6f}' for value in row)}")
            (tmp_path / "labels" / f"{index}.txt").write_text("\n".join(rows))
    data = tmp_path / "data.yaml"
    data.write_text(f"path: {tmp_path}\ntrain: images\nval: images\nnames: [sheep, goat, cow]\n")
    return package, data


def test_average_precision_agrees(
    labelled: tuple[Path, Path],
    quiet_ultralytics: Callable[[Path], Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    package, data = labelled
    detect = pytest.importorskip("ultralytics.models.yolo.detect")

    class ClippingValidator(detect.DetectionValidator):  # type: ignore[name-defined,misc]  # imported at run time
        """Ultralytics clips boxes to the image when it predicts, but not when it validates."""

        def postprocess(self, preds: Any) -> Any:
            found = super().postprocess(preds)
            for image in found:
                image["bboxes"].clamp_(0, SMALL)
            return found

    # Their suppression gives up after two seconds and drops the rest of the batch; on a busy machine that shows.
    monkeypatch.setattr("ultralytics.utils.nms.time", SimpleNamespace(time=lambda: 0.0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # their deprecations are not what this is about
        theirs = (
            quiet_ultralytics(package)
            .val(
                validator=ClippingValidator,
                data=str(data),
                imgsz=SMALL,
                rect=False,  # their rectangles are half a stride larger, which a network without training minds
                batch=4,
                plots=False,
                verbose=False,
                workers=0,
                device="cpu",
                project=str(tmp_path),
                name="val",
            )
            .box
        )
    dataset = load_dataset(data)
    with Detector.open(package) as detector:
        ours = search_split(detector, dataset.splits["val"], dataset.names).evaluation()
    assert 0.05 < theirs.map50 < 0.95
    assert ours.map50 == pytest.approx(theirs.map50, abs=0.01)
    assert ours.map50_95 == pytest.approx(theirs.map, abs=0.01)
    assert ours.precision == pytest.approx(theirs.mp, abs=0.01)
    assert ours.recall == pytest.approx(theirs.mr, abs=0.01)
    assert ours.truncated == 0


def test_classes_are_matched_by_name(labelled: tuple[Path, Path]) -> None:
    package, data = labelled
    dataset = load_dataset(data)
    with Detector.open(package) as detector:
        plain = search_split(detector, dataset.splits["val"], dataset.names).evaluation()
        renamed = search_split(detector, dataset.splits["val"], ("wolf", "goat", "cow")).evaluation()
    assert renamed.per_class["wolf"].recall_at_conf == 0
    assert renamed.per_class["goat"] == plain.per_class["goat"] or renamed.best_conf != plain.best_conf
    assert renamed.per_class["goat"].map50 == plain.per_class["goat"].map50


def test_tiles_find_what_a_whole_small_image_shows(make_package: Callable[..., Path], assets: Path) -> None:
    package = make_package("yolo11n", image_size=SIZE, lively=True)
    image = decode_image(assets / "bus.jpg", max_pixels=10**8)
    with Detector.open(package) as detector:
        tiled = detector.detect(image, options=DetectOptions(conf=0.3))
        one = detector.detect(np.ascontiguousarray(image[:SIZE, :SIZE]), options=DetectOptions(conf=0.3))
    assert tiled.tiles > 9
    inside = [d for d in one.detections if max(d.box[2:]) < SIZE - 70]
    assert inside
    boxes = np.array([d.box for d in tiled.detections])
    overlap = iou_matrix(np.array([d.box for d in inside]), boxes)
    # The first tile is the same picture; away from its neighbours its boxes come through as they are.
    assert (overlap.max(axis=1) > 0.99).all()
