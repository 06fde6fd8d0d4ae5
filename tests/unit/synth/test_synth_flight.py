import numpy as np
import pytest

from transect.synth.flight import Camera, PositionNoise, Route, plan_flight

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
