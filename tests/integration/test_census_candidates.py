"""Candidates of a census: boxes below its threshold, kept for review, from which no number follows."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from kept_parts import kept_looks, kept_photos
from painted_surveys import CELL, CONFIG, GSD, NAMES, TRANSECTS, count, counted_boxes, paint_survey
from transect.census import CensusConfig, CensusResult, load_survey, plan_census
from transect.census.ground.placement.frames import Frame
from transect.census.inputs.photos import LocalPhoto
from transect.census.saved.photos import SavedPhotos, read_photos
from transect.census.sightings.box_keys import box_keys
from transect.census.sightings.candidates import NO_CANDIDATES, below_threshold, most_candidates
from transect.census.sightings.detect import parts_below, search_frames
from transect.census.sightings.found import FrameDetections
from transect.census.sightings.observations import observe, typical_sizes
from transect.engine import Boxes, DetectOptions, Detector
from transect.errors import InputError

PHOTOS = 4
# The score of a square is its red less its green and blue; this one's is 0.16.
FAINT = (40, 0, 0)
WITHOUT = CONFIG.model_copy(update={"review_conf": None})
# Whose bytes must not depend on candidates, and those in which the name of the run stands.
TABLES = ("animals.csv", "animals.geojson", "animals.gpkg", "counts.csv", "coverage.geojson", "estimate.csv")
MORE_TABLES = ("estimate.json", "failures.csv", "photos.parquet", "transects.csv", "units.parquet")
WITH_RUN = ("coco.json", "megadetector.json")


@pytest.fixture(scope="module")
def detector(dot_package: Path) -> Iterator[Detector]:
    with Detector.open(dot_package, threads=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each photo shows two faint squares, one of them half; one photo has no place, and one stands there twice."""
    folder = paint_survey(tmp_path_factory.mktemp("survey"), photos=PHOTOS).folder
    for path in sorted((folder / "images").rglob("*.png")):
        pixels = np.array(Image.open(path))
        pixels[13 * CELL : 14 * CELL, 3 * CELL : 4 * CELL] = FAINT
        # The model's box is a whole cell all the same, at the photo's edge.
        pixels[13 * CELL : 14 * CELL, : CELL // 2] = FAINT
        Image.fromarray(pixels).save(path)
    placeless = np.zeros((128, 192, 3), np.uint8)
    placeless[8:16, 8:16] = (0, 0, 255)
    placeless[40:48, 40:48] = FAINT
    Image.fromarray(placeless).save(folder / "images" / "placeless.png")
    (folder / "images" / "z.png").write_bytes((folder / "images" / "T1" / "T1_000.png").read_bytes())
    return folder


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("out")


@pytest.fixture(scope="module")
def result(survey: Path, out: Path, detector: Detector) -> CensusResult:
    return count(survey, out, detector)


@pytest.fixture(scope="module")
def without(survey: Path, detector: Detector, tmp_path_factory: pytest.TempPathFactory) -> CensusResult:
    return count(survey, tmp_path_factory.mktemp("without"), detector, WITHOUT)


def boxes_of(result: CensusResult) -> pa.Table:
    return pq.read_table(result.folder / "detections.parquet")


def test_no_number_follows_from_a_candidate(result: CensusResult, without: CensusResult) -> None:
    assert result.folder.name != without.folder.name
    for name in (*TABLES, *MORE_TABLES):
        assert (result.folder / name).read_bytes() == (without.folder / name).read_bytes(), name
    for name in WITH_RUN:
        contents = [
            (one.folder / name).read_bytes().replace(one.folder.name.encode(), b"") for one in (result, without)
        ]
        assert contents[0] == contents[1], name
    told = set(result.manifest["files"]) - {*TABLES, *MORE_TABLES, *WITH_RUN}
    assert told == {"detections.parquet"}
    differ = {key for key in result.manifest if result.manifest[key] != without.manifest[key]}
    assert differ - {"created_at"} == {"run", "config", "files"}
    assert counted_boxes(result.folder) == boxes_of(without)
    assert result.rows == without.rows


def test_candidates_stand_after_what_counts_with_the_same_columns(result: CensusResult) -> None:
    table = boxes_of(result)
    assert table.column_names[-4:] == ["detection", "photo_sha256", "box_key", "counts"]
    rows = table.to_pylist()
    assert [row["detection"] for row in rows] == list(range(len(rows)))
    counted = [row for row in rows if row["counts"]]
    candidates = rows[len(counted) :]
    assert not any(row["counts"] for row in candidates)
    assert len(candidates) == 2 * TRANSECTS * PHOTOS + 1
    images = [row["image"] for row in candidates]
    assert images == sorted(images)
    assert {(row["species"], row["class_name"], row["animal"]) for row in candidates} == {("sheep", "sheep", None)}
    assert {round(row["score"], 2) for row in candidates} == {0.16, 0.08}
    # The place of the faint square: shown by the photo before too, but for the first of a transect.
    whole = [row for row in candidates if not row["cut_by_edge"] and row["lon"] is not None]
    assert [row["looks"] for row in whole] == [1, 2, 2, 2] * TRANSECTS
    cut = [row for row in candidates if row["cut_by_edge"]]
    assert len(cut) == TRANSECTS * PHOTOS
    assert all(row["middle_in_photo"] and row["looks"] >= 1 for row in cut)
    (placeless,) = [row for row in candidates if row["image"] == "placeless.png"]
    assert (placeless["looks"], placeless["easting"], placeless["middle_in_photo"]) == (0, None, True)


def test_a_box_is_named_by_its_photo_its_class_and_its_place(result: CensusResult, without: CensusResult) -> None:
    table = boxes_of(result)
    boxes = np.stack([table[name].to_numpy() for name in ("x1", "y1", "x2", "y2")], axis=-1)
    photos, classes = table["photo_sha256"].to_pylist(), table["class_name"].to_pylist()
    assert table["box_key"].to_pylist() == box_keys(photos, classes, boxes)
    assert len(set(table["box_key"].to_pylist())) == table.num_rows
    assert boxes_of(without)["box_key"].to_pylist() == counted_boxes(result.folder)["box_key"].to_pylist()


def test_what_was_found_is_kept_with_its_candidates(
    survey: Path, out: Path, result: CensusResult, detector: Detector
) -> None:
    work = out / "work"
    looks = kept_looks(work)
    assert len(kept_photos(work)) == TRANSECTS * PHOTOS + 1
    assert all(set(content["candidates"]) == {"0.05"} for _, content in looks if content)
    made = (result.folder / "detections.parquet").read_bytes()
    assert count(survey, out, detector).folder == result.folder
    assert (result.folder / "detections.parquet").read_bytes() == made
    assert kept_looks(work) == looks
    # Another threshold of candidates: what counts stays as it was found, beside it is more.
    more = count(survey, out, detector, CONFIG.model_copy(update={"review_conf": 0.2}))
    assert boxes_of(more) == counted_boxes(result.folder)
    added = kept_looks(work)
    assert all(look in added for look in looks)
    assert {key for _, content in added if content for key in content["candidates"]} == {"0.05", "0.2"}
    # What was damaged, or cut off by a kill, is found again.
    files = sorted(work.glob("*/*.jsonl"), key=lambda path: path.stat().st_size)
    content = bytearray(files[-1].read_bytes())
    content[content.index(b'"score"') + 10] ^= 1
    files[-1].write_bytes(content[:-20])
    assert len(kept_looks(work)) == len(added) - 2
    assert (count(survey, out, detector).folder / "detections.parquet").read_bytes() == made
    assert len(kept_looks(work)) == len(added)


def test_a_threshold_that_is_not_below_what_counts_keeps_nothing(
    survey: Path, without: CensusResult, detector: Detector, tmp_path: Path
) -> None:
    result = count(survey, tmp_path, detector, CONFIG.model_copy(update={"review_conf": 0.25}))
    assert boxes_of(result) == boxes_of(without)
    assert not any(content.get("candidates") for _, content in kept_looks(tmp_path / "work"))


def noise(path: Path, width: int, height: int) -> Frame:
    """A photo of noise, other noise in each file, in which a network with random weights finds much."""
    rng = np.random.default_rng(list(path.name.encode()))
    Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)
    return Frame(
        name=path.name, photo=LocalPhoto(path), transect=None, taken_at=None, width=width, height=height, placement=None
    )


@pytest.mark.parametrize("conf", [0.1, 0.9])
def test_what_counts_is_decoded_by_itself(
    make_package: Callable[..., Path], conf: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network that finds much in noise: in tiles that overlap, boxes suppress and complete each other."""
    frames = [noise(tmp_path / f"{number}.png", 200, 150) for number in range(2)]
    options = DetectOptions(conf=conf, tile=64, overlap=16)

    with Detector.open(make_package(lively=True), backend="onnxruntime", precision="fp32") as detector:

        def search(work: str, least: float | None) -> Sequence[FrameDetections]:
            return search_frames(
                frames,
                detector=detector,
                options=options,
                parts=parts_below(tmp_path / work, detector, options),
                workers=1,
                max_pixels=10**6,
                review_conf=least,
            )

        infer = Mock(wraps=detector._backend.infer)
        monkeypatch.setattr(detector._backend, "infer", infer)
        plain = search("plain", None)
        once = infer.call_count
        with_candidates, again = search("both", 0.001), search("both", 0.001)
        assert infer.call_count == 2 * once
    for one, other, kept in zip(plain, with_candidates, again, strict=True):
        assert len(one.boxes) > 1
        assert np.array_equal(one.boxes, other.boxes)
        assert np.array_equal(one.scores, other.scores)
        assert (one.classes, one.tiles, one.truncated) == (other.classes, other.tiles, other.truncated)
        assert one.candidates == NO_CANDIDATES
        assert len(other.candidates.boxes) > 1
        assert 0.001 <= other.candidates.scores.min() <= other.candidates.scores.max() <= conf
        assert np.array_equal(other.candidates.boxes, kept.candidates.boxes)
        assert np.array_equal(other.candidates.boxes, other.candidates.boxes.round(2))
        assert np.array_equal(other.candidates.scores, kept.candidates.scores)
        assert other.candidates.classes == kept.candidates.classes
        assert (other.reused, kept.reused) == (False, True)
    counted, both = (
        {look.sha256: content["counted"] for look, content in kept_looks(tmp_path / work) if content}
        for work in ("plain", "both")
    )
    assert counted == both


def test_photos_put_a_box_where_the_census_put_it(survey: Path, result: CensusResult) -> None:
    photos, plan = read_photos(result.folder), plan_census(load_survey(survey), CensusConfig())
    names = [frame.name for frame in plan.frames if frame.name != "z.png"]
    assert list(photos.image) == names
    assert photos.views == plan.poses[: len(names)]
    assert photos.views[-1] is None
    assert photos.epsg == plan.grid.epsg == 32736
    assert set(photos.stratum) == {"plain", None}
    assert photos.transect[0] == "T1"
    assert photos.gsd_m[:-1] == pytest.approx(GSD)
    assert np.isnan(photos.gsd_m[-1])
    assert not photos.truncated.any()
    pixels = np.random.default_rng(1).uniform(0, 128, (50, 2))
    for view, other in zip(photos.views, plan.poses, strict=False):
        if view is not None and other is not None:
            assert np.array_equal(view.to_ground(pixels), other.to_ground(pixels))

    table = counted_boxes(result.folder)
    species = {name: number for number, name in enumerate(NAMES)}
    seen = observe(found_in(table, photos), photos.views, species, photos.footprints)
    assert seen.visits.tolist() == table["looks"].to_pylist()
    assert np.array_equal(seen.xy, np.stack([table[name].to_numpy() for name in ("easting", "northing")], -1), True)
    candidates = boxes_of(result).slice(table.num_rows)
    sizes = typical_sizes(seen, photos.views, len(species))
    again = observe(found_in(candidates, photos), photos.views, species, photos.footprints, sizes)
    assert again.visits.tolist() == candidates["looks"].to_pylist()


def found_in(table: pa.Table, photos: SavedPhotos) -> list[FrameDetections]:
    rows = [photos.sha256.index(digest) for digest in table["photo_sha256"].to_pylist()]
    boxes = np.stack([table[name].to_numpy() for name in ("x1", "y1", "x2", "y2")], axis=-1)
    return photos.with_boxes(np.array(rows), boxes, table["class_name"].to_pylist())


def test_an_animal_that_a_person_adds_lies_where_the_census_would_have_put_it(
    survey: Path, result: CensusResult
) -> None:
    """A box that the model missed, in its row among the photos; the survey's photos are not needed."""
    photos = read_photos(result.folder)
    row = photos.image.index("T2/T2_001.png")
    added = np.array([[100.0, 8.0, 108.0, 16.0]])
    seen = observe(photos.with_boxes(np.array([row]), added, ["goat"]), photos.views, {"goat": 7}, photos.footprints)
    plan = plan_census(load_survey(survey), CensusConfig())
    assert (seen.frame.tolist(), seen.species.tolist(), seen.visits.tolist()) == ([row], [7], [2])
    pose = plan.poses[[frame.name for frame in plan.frames].index("T2/T2_001.png")]
    assert pose is not None
    assert np.array_equal(seen.xy, pose.to_ground(np.array([[104.0, 12.0]])))
    nothing = photos.with_boxes(np.empty(0, np.int64), np.empty((0, 4)), [])
    assert len(observe(nothing, photos.views, {"goat": 0}, photos.footprints)) == 0
    with pytest.raises(ValueError, match="do not ascend"):
        photos.with_boxes(np.array([1, 0]), np.zeros((2, 4)), ["goat", "goat"])


def test_photos_of_another_version_or_that_are_none_are_refused(result: CensusResult, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no photos\.parquet, .* run the census again"):
        read_photos(tmp_path)
    (tmp_path / "photos.parquet").write_bytes(b"none")
    with pytest.raises(InputError, match=r"photos\.parquet is not what a census writes"):
        read_photos(tmp_path)
    table = pq.read_table(result.folder / "photos.parquet")
    for broken in (table.drop_columns(["view"]), table.replace_schema_metadata({})):
        pq.write_table(broken, tmp_path / "photos.parquet")
        with pytest.raises(InputError, match=r"photos\.parquet is not what a census writes"):
            read_photos(tmp_path)


def test_of_a_model_that_finds_boxes_everywhere_the_best_candidates_are_kept(
    detector: Detector, tmp_path: Path
) -> None:
    """A photo of squares alone, each column redder than the one before: what is kept of it is bounded."""
    columns, rows = 50, 38
    pixels = np.zeros((rows * CELL, columns * CELL, 3), np.uint8)
    pixels[..., 0] = 20 + np.arange(columns * CELL) // CELL
    path = tmp_path / "squares.png"
    Image.fromarray(pixels).save(path)
    height, width = pixels.shape[:2]
    frame = Frame(
        name=path.name, photo=LocalPhoto(path), transect=None, taken_at=None, width=width, height=height, placement=None
    )

    options = DetectOptions(tile=64, overlap=16)

    def search() -> FrameDetections:
        (found,) = search_frames(
            [frame],
            detector=detector,
            options=options,
            parts=parts_below(tmp_path / "work", detector, options),
            workers=1,
            max_pixels=10**6,
            review_conf=0.05,
        )
        return found

    found, again = search(), search()
    kept = found.candidates
    # What counts is not bounded so: six columns are red enough.
    assert (len(found.boxes), found.truncated) == (6 * rows, False)
    assert len(kept.boxes) == most_candidates(found.tiles) == 10 * found.tiles < (columns - 6) * rows
    assert kept.truncated
    # Of the reddest columns that do not count, so many as are needed.
    whole = len(kept.boxes) // rows
    assert set(kept.boxes[: whole * rows, 0]) == {(columns - 7 - one) * CELL for one in range(whole)}
    assert again.reused
    assert np.array_equal(again.candidates.boxes, kept.boxes)
    assert again.candidates.truncated


def test_as_many_candidates_as_are_kept_are_all_of_them() -> None:
    many = 2 * most_candidates(1)
    scores = np.linspace(0.3, 0.05, many).astype(np.float32)
    found = Boxes(np.zeros((many, 4), np.float32), scores, np.zeros(many, np.int64))
    kept = below_threshold(found, 0.25, most_candidates(1))
    assert kept.truncated
    assert kept.scores.tolist() == scores[scores <= 0.25][: most_candidates(1)].tolist()
    assert not below_threshold(found, 0.25, many).truncated
    assert most_candidates(400) > most_candidates(1)
