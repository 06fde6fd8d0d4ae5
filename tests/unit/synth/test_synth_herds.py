import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from transect.synth.animals.herds import apart, draw_herd
from transect.synth.animals.population import draw_population
from transect.synth.animals.species import SPECIES


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(range(3)), st.integers(1, 15))
def test_no_two_animals_of_a_herd_overlap(seed: int, species: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    first = draw_herd(rng, species, size, (0.0, 0.0))
    both = first + draw_herd(rng, (species + 1) % 3, size, (2.0, 1.0), others=tuple(first))
    assert len(first) >= 1
    assert all(apart(a, b) for i, a in enumerate(both) for b in both[:i])


def test_animals_have_the_lengths_of_their_species() -> None:
    rng = np.random.default_rng(5)
    for kind in SPECIES:
        lengths = [a.length_m for _ in range(200) for a in draw_herd(rng, kind.index, 1, (0.0, 0.0))]
        assert 0.5 * kind.length_m < min(lengths)
        assert max(lengths) <= 1.15 * kind.length_m
        assert 0.93 * kind.length_m < float(np.median(lengths)) < 1.05 * kind.length_m


def test_a_population_is_dense_clustered_and_without_overlaps() -> None:
    animals = draw_population(900.0, 500.0, seed=4)
    places = np.array([(a.x, a.y) for a in animals])
    lengths = np.array([a.length_m for a in animals])
    assert places.min() > 0
    assert (places < (900, 500)).all()
    distance = np.hypot(*(places[:, None] - places[None]).transpose(2, 0, 1))
    np.fill_diagonal(distance, np.inf)
    assert (distance >= np.maximum(lengths[:, None], lengths[None])).all()
    for kind in SPECIES:
        density_km2 = sum(a.species == kind.index for a in animals) / (0.9 * 0.5)
        assert 140 < density_km2 < 250
    # Clark-Evans: animals at random would have a mean nearest neighbour at 1 / (2 sqrt(density)).
    assert distance.min(axis=1).mean() < 0.5 * 0.5 / np.sqrt(len(animals) / (900 * 500))
    assert animals == draw_population(900.0, 500.0, seed=4)
    assert animals != draw_population(900.0, 500.0, seed=5)
