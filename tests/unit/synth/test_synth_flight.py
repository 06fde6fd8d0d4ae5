import numpy as np
import pytest

from transect.synth.camera.flight import Camera, PositionNoise, Route, plan_flight

CAMERA = Camera()
ROUTE = Route(height_m=64.0, overlap=0.25)


def test_the_ground_sample_distance_is_that_of_the_design() -> None:
    assert CAMERA.gsd(64.0) == pytest.approx(13.2 * 64 / (8.8 * 1920))
    assert CAMERA.gsd(64.0) == pytest.approx(0.05)


@pytest.mark.parametrize("frames", [2, 3, 8, 31, 96, 400])
def test_all_frames_lie_in_the_stratum(frames: int) -> None:
    flight = plan_flight(frames, 3, ROUTE, camera=CAMERA)
    assert len({shot.name for shot in flight.shots}) == len(flight.shots) == frames
    assert len({shot.transect for shot in flight.shots}) >= 2
    for shot in flight.shots:
        view = CAMERA.view(shot.true)
        corners = [view.to_ground(c, r) for c in (0, view.width) for r in (0, view.height)]
        assert all(0 <= x <= flight.width_m for x, _ in corners)
        assert all(-4 <= y <= flight.height_m + 4 for _, y in corners)


def test_the_default_survey_has_eight_transects_flown_back_and_forth() -> None:
    flight = plan_flight(96, 0, ROUTE, camera=CAMERA)
    names = sorted({shot.transect for shot in flight.shots})
    assert names == [f"T{i:02d}" for i in range(1, 9)]
    north = [abs((s.true.yaw_deg + 180) % 360 - 180) < 90 for s in flight.shots if s.name.endswith("0001")]
    assert north == [True, False] * 4
    assert flight.width_m == pytest.approx(3000)
    assert 550 < flight.height_m < 750


def test_neighbours_overlap_and_transects_do_not() -> None:
    flight = plan_flight(24, 1, ROUTE, camera=CAMERA)
    for a, b in zip(flight.shots, flight.shots[1:], strict=False):
        distance = np.hypot(a.true.x - b.true.x, a.true.y - b.true.y)
        if a.transect == b.transect:
            assert 1440 * 0.05 * (1 - distance / (1440 * 0.05)) > 10  # metres seen twice
        else:
            assert distance > 200


def test_recorded_positions_are_off_as_asked() -> None:
    noise = PositionNoise(gps_m=2.0, yaw_deg=3.0, height_m=1.0)
    flight = plan_flight(400, 9, Route(height_m=64.0, overlap=0.1), camera=CAMERA, noise=noise)
    east = [s.recorded.x - s.true.x for s in flight.shots]
    up = [s.recorded.height_m - s.true.height_m for s in flight.shots]
    turn = [(s.recorded.yaw_deg - s.true.yaw_deg + 180) % 360 - 180 for s in flight.shots]
    assert np.std(east) == pytest.approx(2.0, rel=0.15)
    assert np.std(up) == pytest.approx(1.0, rel=0.15)
    assert np.std(turn) == pytest.approx(3.0, rel=0.15)


def test_without_noise_the_records_are_true() -> None:
    flight = plan_flight(6, 2, ROUTE, camera=CAMERA, noise=PositionNoise(0, 0, 0))
    assert all(shot.true == shot.recorded for shot in flight.shots)


def test_time_goes_on() -> None:
    times = [shot.taken_at for shot in plan_flight(24, 1, ROUTE, camera=CAMERA).shots]
    assert times == sorted(set(times))


@pytest.mark.parametrize("overlap", [0.0, 0.6, 0.8, 0.9])
@pytest.mark.parametrize("side_overlap", [0.0, 0.3, 0.6, 0.9])
def test_frames_and_lines_overlap_as_promised(overlap: float, side_overlap: float) -> None:
    route = Route(height_m=80.0, overlap=overlap, side_overlap=side_overlap, transects=4)
    flight = plan_flight(60, 5, route, camera=CAMERA)
    across, along = CAMERA.gsd(80.0) * CAMERA.width, CAMERA.gsd(80.0) * CAMERA.height
    lines = [[s for s in flight.shots if s.transect == f"T{i:02d}"] for i in range(1, 5)]
    middle = [float(np.mean([s.true.x for s in line])) for line in lines]
    # The wind moves a frame by a metre, so the mean of 15 by a quarter.
    assert 1 - np.diff(middle) / across == pytest.approx(side_overlap, abs=1.2 / across)
    for line in lines:
        first, last = line[0].true.y, line[-1].true.y
        assert 1 - abs(last - first) / (len(line) - 1) / along == pytest.approx(overlap, abs=5 / 14 / along)
    assert flight.width_m == pytest.approx(across * (1 + 3 * (1 - side_overlap)), abs=9)


def test_lines_that_overlap_photograph_the_whole_stratum() -> None:
    route = Route(height_m=64.0, overlap=0.6, side_overlap=0.3, transects=5)
    flight = plan_flight(40, 2, route, camera=CAMERA)
    views = [CAMERA.view(shot.true) for shot in flight.shots]
    rng = np.random.default_rng(0)
    places = rng.uniform((8, 8), (flight.width_m - 8, flight.height_m - 8), (400, 2))
    assert all(any(view.contains(x, y) for view in views) for x, y in places)


def test_a_further_pass_flies_the_same_lines_again() -> None:
    route = Route(height_m=64.0, overlap=0.5, transects=3, passes=3, break_s=600.0)
    flight = plan_flight(12, 8, route, camera=CAMERA)
    once = plan_flight(12, 8, Route(height_m=64.0, overlap=0.5, transects=3), camera=CAMERA)
    assert flight.shots[:12] == once.shots
    assert [s.transect for s in flight.shots[12::4]] == ["T01-2", "T02-2", "T03-2", "T01-3", "T02-3", "T03-3"]
    assert flight.shots[12].name == "T01-2_0001"
    assert len({shot.name for shot in flight.shots}) == 36
    for first, again in zip(flight.shots[:12], flight.shots[12:24], strict=True):
        assert np.hypot(first.true.x - again.true.x, first.true.y - again.true.y) < 2 * 2.5 * 2**0.5
        assert first.true != again.true, "another wind"
    assert (flight.shots[12].taken_at - flight.shots[11].taken_at).total_seconds() > 600
    assert (flight.width_m, flight.height_m) == (once.width_m, once.height_m)


def test_time_between_photos_follows_from_the_speed() -> None:
    slow, fast, fastest = (
        plan_flight(4, 0, Route(height_m=64.0, overlap=0.8, transects=1, speed_m_s=speed), camera=CAMERA).shots
        for speed in (6.0, 12.0, 1000.0)
    )
    assert [(s[1].taken_at - s[0].taken_at).total_seconds() for s in (slow, fast, fastest)] == [2.4, 1.2, 0.1]
