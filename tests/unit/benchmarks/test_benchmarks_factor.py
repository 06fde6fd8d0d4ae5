import numpy as np
import pytest
from benchmarks.factor import LINES, WORLDS, Line, World, animals_of, held


def test_false_alarms_make_the_precision() -> None:
    line = Line(100, 10, precision=0.8, recall=0.9)
    # 90 right ones and 22.5 false ones: 90 / 112.5 = 0.8; and 10 are missed.
    assert line.alarms == pytest.approx(0.225)
    assert line.errors == pytest.approx(32.5)


def test_herds_have_as_many_animals_as_the_line_says() -> None:
    rng, line = np.random.default_rng(1), LINES[0]
    on_average = animals_of(line, WORLDS[0], 4000, rng)
    assert on_average.shape == (4000, line.images)
    assert on_average.sum(axis=1).mean() == pytest.approx(line.animals, rel=0.05)
    assert (on_average == 0).mean() > 0.4
    exact = animals_of(line, World("exact", 0.0, 0.0, exact=True), 50, rng)
    assert set(exact.sum(axis=1)) == {line.animals}


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.name)
def test_a_line_of_many_errors_is_held(world: World) -> None:
    found = held(Line(200, 100, 0.95, 0.9), world, 400, 1)
    # 400 sets: three standard errors of 0.011 around 93 to 97%.
    assert 0.89 < found.factor < 1
    assert found.factor == pytest.approx(1 - found.below - found.above)
    assert min(found.precision, found.recall) > 0.89
