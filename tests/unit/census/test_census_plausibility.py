from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from transect.census.ground.coverage import Coverage, Region, compute_coverage
from transect.census.ground.geometry import Pose
from transect.census.ground.placement.frames import Frame, Placement
from transect.census.ground.plausibility import plausibility_issues, unsampled_transects
from transect.census.inputs.photos import LocalPhoto
from transect.census.inputs.survey import SurveySpec

START = datetime(2026, 7, 14, 9, 30)  # noqa: DTZ001 - camera clocks have no zone


def frame(name: str, seconds: float | None, transect: str | None = "T1", remark: str = "") -> Frame:
    time = None if seconds is None else START + timedelta(seconds=seconds)
    return Frame(
        name=name,
        photo=LocalPhoto(Path(name)),
        transect=transect,
        taken_at=time,
        width=1000,
        height=1000,
        placement=None,
        remarks=(remark,) if remark else (),
    )


def pose(x: float = 0.0, y: float = 0.0) -> Pose:
    return Pose(x=x, y=y, yaw_deg=0.0, height_m=64.0, metres_per_pixel=0.1, width=1000, height=1000)


def test_a_transect_flown_as_it_should_be_has_nothing_to_say() -> None:
    frames = [frame(f"T1/DSC_{n}.jpg", 2.0 * n) for n in range(8, 12)]
    assert plausibility_issues(frames, [pose(y=40.0 * n) for n in range(4)]) == ()


def test_time_that_runs_backwards_is_named() -> None:
    # By name as people count it: 9 before 10.
    frames = [frame("T1/DSC_9.jpg", 10), frame("T1/DSC_10.jpg", 4), frame("T1/DSC_11.jpg", 12)]
    (found,) = plausibility_issues(frames, [None] * 3)
    assert (found.file, found.kind) == ("T1/DSC_10.jpg", "suspect")
    assert "In transect T1 time runs backwards: T1/DSC_10.jpg was taken at 2026-07-14 09:30:04" in found.reason
    # Photos without a time or on no transect say nothing.
    assert (
        plausibility_issues([frame("b.jpg", 1, None), frame("c.jpg", 0, None), frame("T1/a.jpg", None)], [None] * 3)
        == ()
    )


def test_a_place_that_no_aircraft_reaches_in_time_is_named() -> None:
    frames = [frame("T1/a.jpg", 0), frame("T1/b.jpg", 2), frame("T1/c.jpg", 4)]
    (found,) = plausibility_issues(frames, [pose(), pose(y=50), pose(y=3050)])
    assert found.file == "T1/c.jpg"
    assert "lies 3 km from T1/b.jpg, which was taken 2 s earlier" in found.reason


def test_what_a_frame_remarks_is_listed() -> None:
    (found,) = plausibility_issues([frame("a.jpg", None, remark="the camera's clock was not set.")], [pose()])
    assert found.reason == "a.jpg: the camera's clock was not set."


def test_a_height_unlike_the_others_is_named() -> None:
    def at(height: float, number: int) -> Frame:
        return replace(
            frame(f"{number}.jpg", None),
            placement=Placement(latitude=-1.5 + number / 1000, longitude=35.1, height_m=height, yaw_deg=0, gsd_m=0.01),
        )

    heights = [60.0, 64, 70, 90, 640, 40, 21]
    found = plausibility_issues([at(height, number) for number, height in enumerate(heights)], [None] * len(heights))
    assert [one.file for one in found] == ["4.jpg", "6.jpg"]
    assert "640 m above ground" in found[0].reason
    assert plausibility_issues([at(64, 0), at(640, 1)], [None] * 2) == ()


def laid(photos: list[tuple[float, str]], regions: list[Region]) -> tuple[list[Frame], Coverage]:
    frames = [frame(f"{transect}/{number}.jpg", None, transect) for number, (_, transect) in enumerate(photos)]
    views = {number: pose(x) for number, (x, _) in enumerate(photos)}
    spec = SurveySpec(name="s")
    return frames, compute_coverage(views, {n: frames[n].transect for n in views}, regions, spec, 1.0)


def test_transects_that_sample_nothing_are_named() -> None:
    plain = Region("plain", 1.0, pose(500).outline().buffer(1000).envelope, None)
    frames, coverage = laid([(0, "T1"), (0, "T2"), (300, "T3"), (9000, "T4"), (9100, "T4")], [plain])
    found = unsampled_transects(frames, coverage)
    assert [(one.file, one.kind) for one in found] == [("T2", "transect"), ("T4", "transect")]
    assert "shows the ground of transect T1 in stratum plain again" in found[0].reason
    assert "Transect T4 (2 photos) lies in no stratum" in found[1].reason


def test_without_strata_no_transect_is_outside() -> None:
    assert unsampled_transects(*laid([(0, "T1"), (500, "T2")], [])) == ()


def test_photos_on_one_point_though_time_goes_by_are_named_fairly() -> None:
    def at(number: int, seconds: float | None, lat: float) -> Frame:
        return replace(
            frame(f"{number}.jpg", seconds),
            placement=Placement(latitude=lat, longitude=35.1, height_m=64.0, yaw_deg=0, gsd_m=0.01),
        )

    still = [at(number, 2.0 * number, -1.5) for number in range(7)]
    (found,) = plausibility_issues(still, [None] * 7)
    assert "0.jpg to 6.jpg: 7 photos stand at one point, within 1 m though 12 s lie between" in found.reason
    assert "the aircraft hovered, the receiver stood still, or the file lost decimals" in found.reason
    # A burst, a pair, and photos that move are nothing.
    assert plausibility_issues([at(number, 0.3 * number, -1.5) for number in range(5)], [None] * 5) == ()
    assert (
        plausibility_issues([at(number, 2.0 * number, -1.5 + number / 2500) for number in range(7)], [None] * 7) == ()
    )
    assert len(plausibility_issues([at(number, None, -1.5) for number in range(5)], [None] * 5)) == 1
    assert plausibility_issues([at(number, None, -1.5) for number in range(4)], [None] * 4) == ()
    # Decimals that were lost put the photos on points in pairs.
    (found,) = plausibility_issues(
        [at(number, 2.0 * number, -1.5 + number // 2 / 1000) for number in range(8)], [None] * 8
    )
    assert "the first of 8 photos" in found.reason
