from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transect.synth.animals.herds import draw_herd
from transect.synth.animals.motion import Tracks, animals_at, with_velocities
from transect.synth.animals.population import draw_population
from transect.synth.animals.species import Animal, draw_animal

WIDTH, HEIGHT = 300.0, 200.0


def herd_on_its_way(seed: int, fastest: float = 2.0) -> list[Animal]:
    rng = np.random.default_rng(seed)
    return with_velocities(rng, draw_herd(rng, 2, 12, (150.0, 100.0)), fastest)


@settings(max_examples=60)
@given(seed=st.integers(0, 2**31), seconds=st.floats(0, 1e5), fastest=st.floats(0, 20))
def test_nobody_leaves_the_stratum(seed: int, seconds: float, fastest: float) -> None:
    herd = herd_on_its_way(seed, fastest)
    x, y, heading = Tracks.of(herd, WIDTH, HEIGHT).at(seconds)
    edge = np.array([animal.length_m / 2 for animal in herd]) - 1e-6
    assert (x >= edge).all()
    assert (x <= WIDTH - edge).all()
    assert (y >= edge).all()
    assert (y <= HEIGHT - edge).all()
    assert ((heading >= 0) & (heading < 360)).all()


@settings(max_examples=60)
@given(seed=st.integers(0, 2**31), seconds=st.floats(0, 5000))
def test_animals_look_where_they_go_at_their_own_speed(seed: int, seconds: float) -> None:
    herd = [animal for animal in herd_on_its_way(seed) if np.hypot(*animal.velocity) > 0.05]
    tracks = Tracks.of(herd, WIDTH, HEIGHT)
    (x0, y0, heading), (x1, y1, after) = tracks.at(seconds), tracks.at(seconds + 0.01)
    straight = heading == after
    way = np.stack([x1 - x0, y1 - y0])[:, straight] / 0.01
    speed = np.array([np.hypot(*animal.velocity) for animal in herd])[straight]
    ahead = np.stack([np.sin(np.radians(heading)), np.cos(np.radians(heading))])[:, straight]
    assert way == pytest.approx(ahead * speed, abs=1e-6)
    assert straight.sum() >= len(herd) - 2


def test_a_walker_turns_back_at_the_border() -> None:
    animal = draw_animal(np.random.default_rng(1), 1, 280.0, 100.0, 0.0)
    animal = replace(animal, heading_deg=90.0, velocity=(1.0, 0.0), length_m=2.0)
    tracks = Tracks.of([animal], WIDTH, HEIGHT)
    assert [float(tracks.at(t)[0][0]) for t in (0, 19, 20, 298 + 19)] == pytest.approx([280, 299, 298, 1])
    assert float(tracks.at(10)[2][0]) == 90
    assert float(tracks.at(20)[2][0]) == 270
    assert float(tracks.at(298 + 20)[2][0]) == 90


def test_a_herd_goes_together_and_those_that_lie_stay() -> None:
    herds = [herd_on_its_way(seed) for seed in range(80)]
    going = [[animal for animal in herd if animal.velocity != (0.0, 0.0)] for herd in herds]
    grazing = sum(not herd for herd in going)
    assert 0.1 < grazing / len(herds) < 0.4
    for herd in filter(None, going):
        east, north = np.array([animal.velocity for animal in herd]).T
        speed = np.hypot(east, north)
        assert speed.max() <= 2.0
        assert speed.std() < 0.35 * speed.mean()
        together = np.hypot((east / speed).mean(), (north / speed).mean())
        assert together > 0.85
        assert np.degrees(np.arctan2(east, north)) % 360 == pytest.approx([animal.heading_deg for animal in herd])
    lying = [animal for herd in herds for animal in herd if animal.appearance.lying]
    assert lying
    assert all(animal.velocity == (0.0, 0.0) for animal in lying)


def test_an_even_spread_stays_even() -> None:
    rng = np.random.default_rng(5)
    x, y = rng.uniform((1, 1), (WIDTH - 1, HEIGHT - 1), (20_000, 2)).T
    angle = rng.uniform(0, 2 * np.pi, x.size)
    tracks = Tracks(
        x=x,
        y=y,
        heading_deg=np.degrees(angle),
        vx=np.sin(angle),
        vy=np.cos(angle),
        room=(WIDTH, HEIGHT),
        edge=np.ones_like(x),
    )
    for seconds in (40.0, 400.0, 4000.0):
        east, north, _ = tracks.at(seconds)
        counts, _, _ = np.histogram2d(east, north, bins=(10, 10), range=((1, WIDTH - 1), (1, HEIGHT - 1)))
        chi2 = float(((counts - 200) ** 2 / 200).sum())
        assert chi2 < 150, "99 degrees of freedom"


def test_walking_changes_no_place_and_no_number() -> None:
    still, walkers = draw_population(600, 500, 4), draw_population(600, 500, 4, speed_m_s=1.5)
    assert [replace(a, heading_deg=0.0, velocity=(0.0, 0.0)) for a in walkers] == [
        replace(a, heading_deg=0.0) for a in still
    ]
    assert all(a.velocity == (0.0, 0.0) for a in still)
    assert np.mean([a.velocity != (0.0, 0.0) for a in walkers]) > 0.4


def test_who_stands_is_untouched() -> None:
    walkers = draw_population(600, 500, 4, speed_m_s=1.5)
    later = animals_at(walkers, Tracks.of(walkers, 600, 500), 77.7)
    for before, after in zip(walkers, later, strict=True):
        if before.velocity == (0.0, 0.0):
            assert after is before
        else:
            assert (after.x, after.y) != (before.x, before.y)
            assert replace(after, x=before.x, y=before.y, heading_deg=before.heading_deg) == before
