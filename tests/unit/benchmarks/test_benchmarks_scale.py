import numpy as np
import pytest
from benchmarks.scale import PEER_DISTANCES_M, Outcome, Stage, Stages, count, peer, report
from benchmarks.simulated_survey import BOXES_A_PHOTO, HEIGHT, SPECIES, WIDTH, simulate_survey

from transect.census.inputs.config import CensusConfig


def test_a_flown_survey_is_what_it_says() -> None:
    flown = simulate_survey(400)
    assert len(flown.frames) == len(flown.found) >= 400
    assert flown.boxes == pytest.approx(BOXES_A_PHOTO * len(flown.frames), rel=0.2)
    times = [frame.taken_at for frame in flown.frames]
    assert times == sorted(times, key=str)
    boxes = np.concatenate([one.boxes for one in flown.found])
    assert (boxes >= 0).all()
    assert (boxes <= [WIDTH, HEIGHT, WIDTH, HEIGHT]).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert {name for one in flown.found for name in one.classes} == set(SPECIES)
    assert simulate_survey(400).truth == flown.truth != simulate_survey(400, seed=2).truth


def test_the_census_counts_the_survey_and_every_stage_is_timed() -> None:
    flown, stages = simulate_survey(600), Stages()
    observations, unique = count(flown, CensusConfig(), stages)
    assert unique == pytest.approx(flown.truth, rel=0.05)
    assert len(observations) == flown.boxes
    assert len({stage.name for stage in stages.done}) == len(stages.done) == 8
    _, metres, animals = peer(observations, flown.truth)
    assert metres in PEER_DISTANCES_M
    assert 0 < animals <= flown.boxes


def outcome(photos: int, seconds: float) -> Outcome:
    stages = (Stage("places", seconds, 0.5, 0.5), Stage("each animal once", 2 * seconds, 2.0, 1.5))
    return Outcome(photos, 10 * photos, 0.4, stages, 303, 300, seconds / 2, 2.0, 330)


def test_growth_is_by_box_and_the_bars_are_the_largest_survey_s() -> None:
    found = report([outcome(1000, 1.0), outcome(10_000, 15.0)])
    assert found.tables[0].rows[0] == ("places", "1.00", "15.00", "1.50", "0.50", "0.50")
    assert found.tables[0].rows[-1] == ("all", "3.00", "45.00", "1.50", "2.50", "1.50")
    assert found.tables[1].rows[0][3] == "+1.00%"
    assert found.tables[1].rows[0][-1] == "4"
    assert [bar.met for bar in found.bars] == [True, True]
    assert [bar.met for bar in report([outcome(1000, 21.0)]).bars] == [False, True]
