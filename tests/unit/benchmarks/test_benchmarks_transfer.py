from dataclasses import replace

import pytest
from benchmarks.transfer import KNOWN, LINES, NAMES, UNKNOWN, Outcome, Summary, Survey, bars, design, pooled_error

from transect.synth import plan_survey

RIGHT = Outcome(NAMES[0], 50, 400, 45.0, 52.0, (300.0, 500.0), "validated")


def survey(*changed: Outcome) -> Survey:
    """A survey that is right, but for the species given."""
    given = {one.species: one for one in changed}
    return tuple(given.get(name, replace(RIGHT, species=name)) for name in NAMES)


def doubted(one: Outcome, kind: str = "ground") -> Outcome:
    return replace(one, state="not validated here", kinds=(kind,))


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({}, False),
        ({"corrected": 60.0}, False),
        ({"corrected": 60.1}, True),
        ({"corrected": 39.0}, True),
        ({"limits": (401.0, 500.0)}, True),
        ({"limits": (300.0, 400.0)}, False),
        ({"limits": None}, False),
        ({"photographed": 0, "population": 0, "corrected": 0.1, "limits": (0.0, 1.0)}, True),
        ({"photographed": 0, "population": 0, "corrected": 0.0, "limits": (0.0, 1.0)}, False),
    ],
)
def test_an_outcome_is_wrong_where_count_or_limits_mislead(changes: dict[str, object], wrong: bool) -> None:
    assert replace(RIGHT, **changes).wrong is wrong  # type: ignore[arg-type]  # fields of Outcome, by name


def test_a_summary_counts_surveys_once_and_species_each() -> None:
    missed = replace(RIGHT, limits=(401.0, 500.0))
    told = Summary.of(
        [
            survey(),
            survey(missed),
            survey(*(doubted(replace(RIGHT, species=name), "scores") for name in NAMES[:2])),
            survey(doubted(missed)),
        ]
    )
    assert told == Summary(
        surveys=4, called=2, wrong=2, wrong_called=1, valid=9, held=8, kinds={"scores": 1, "ground": 1}
    )


def test_counts_are_pooled_over_surveys() -> None:
    surveys = [survey(replace(RIGHT, corrected=90.0, photographed=60)), survey(replace(RIGHT, corrected=20.0))]
    assert pooled_error(surveys, NAMES[0]) == pytest.approx(0.0)
    assert pooled_error(surveys, NAMES[1]) == pytest.approx(0.04)


def test_bars_of_the_same_kind_and_of_sparse_surveys() -> None:
    false_alarms = replace(RIGHT, corrected=100.0)
    results = {
        "same": ([survey()] * 9 + [survey(doubted(RIGHT))], [survey(doubted(RIGHT))] * 10),
        "twentieth": ([survey()] * 10, [survey(doubted(false_alarms))] * 9 + [survey(false_alarms)]),
        "dusk": ([survey(doubted(false_alarms))] * 8 + [survey(false_alarms)] * 2, [survey()] * 10),
    }
    found = {bar.what: bar for bar in bars(results)}
    assert found[f"surveys not validated, same, {KNOWN}"].met
    assert f"surveys not validated, same, {UNKNOWN}" not in found
    assert found[f"pooled error of {NAMES[0]}, twentieth, {KNOWN}"].met
    assert found[f"wrong ones not validated, twentieth, {UNKNOWN}"].met
    dusk = found[f"wrong ones not validated, dusk, {KNOWN}"]
    assert (dusk.value, dusk.met) == (0.8, False)
    # Nothing was wrong there, so there was nothing to say.
    assert f"wrong ones not validated, dusk, {UNKNOWN}" not in found
    valid = [bar.met for bar in bars(results) if bar.what == f"limits printed as valid that hold, {KNOWN}"]
    assert valid == [True, False]


def test_lines_change_animals_land_height_and_light() -> None:
    plans = {line.name: plan_survey(design(replace(line, frames=1), 40, 1)) for line in LINES}
    same = plans["same"]
    animals = {name: len(plan.scene.animals) for name, plan in plans.items()}
    assert animals["fifth"] == pytest.approx(animals["same"] / 5, rel=0.3)
    assert animals["twentieth"] < animals["fifth"] / 2
    assert NAMES[0] not in {NAMES[animal.species] for animal in plans["absent"].scene.animals}
    assert plans["biome"].scene.ground != same.scene.ground
    assert plans["biome"].scene.animals == same.scene.animals
    assert plans["dusk"].scene.light.elevation_deg < 10 < same.scene.light.elevation_deg
    assert plans["half"].flight.shots[0].recorded.height_m == pytest.approx(32, abs=3)
    assert plans["double"].flight.shots[0].recorded.height_m == pytest.approx(128, abs=3)
