import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from shapely import points, union_all
from shapely.geometry import box
from shapely.geometry.base import BaseGeometry

from transect.census.counting.tally import Tally, tally
from transect.census.ground.coverage import Coverage, Region, assign_to_units, check_against_strata, compute_coverage
from transect.census.ground.geometry import Pose
from transect.census.inputs.survey import SurveySpec
from transect.census.sightings.animals import Animals
from transect.census.sightings.observations import Observations
from transect.errors import SurveyError

# A photo of 100 m by 100 m.
SIDE = 100.0


def photo(x: float, y: float) -> Pose:
    return Pose(x=x, y=y, yaw_deg=0.0, height_m=64.0, metres_per_pixel=0.1, width=1000, height=1000)


def spec(sampling: str = "strip") -> SurveySpec:
    return SurveySpec.model_validate({"name": "s", "sampling": sampling})


def region(name: str = "all", area: float = 1.0, bounds: tuple[float, float, float, float] | None = None) -> Region:
    return Region(name, area, None if bounds is None else box(*bounds), None)


def laid(
    photos: list[tuple[float, float, str | None]], regions: list[Region], sampling: str = "strip", scale: float = 1.0
) -> Coverage:
    poses = {number: photo(x, y) for number, (x, y, _) in enumerate(photos)}
    transects = {number: transect for number, (_, _, transect) in enumerate(photos)}
    return compute_coverage(poses, transects, regions, spec(sampling), scale)


def count(xy: list[tuple[float, float]], species: list[int], coverage: Coverage, sampling: str = "strip") -> Tally:
    places: NDArray[np.float64] = np.array(xy, np.float64).reshape(-1, 2)
    kinds = np.array(species, np.int64)
    ones = np.ones(len(kinds))
    seen = Observations(
        frame=kinds * 0,
        species=kinds,
        class_code=kinds * 0,
        class_names=("",),
        score=ones,
        box=np.zeros((len(kinds), 4)),
        xy=places,
        placed=ones > 0,
        cut=ones < 0,
        inside=ones > 0,
        yaw_arm_m=ones,
        height_arm=ones,
        reported_sd_m=ones,
        box_sd=ones,
        visits=kinds * 0 + 1,
    )
    unit = assign_to_units(places, coverage, 10.0)
    animals = Animals(places, kinds, kinds * 0 + 1, ones, unit)
    return tally(("sheep", "zebra"), seen, animals, coverage, spec(sampling))


def test_overlapping_photos_of_a_transect_cover_their_union() -> None:
    coverage = laid([(0, 0, "T1"), (0, 50, "T1"), (0, 1000, "T2")], [region()])
    assert [unit.transect for unit in coverage.units] == ["T1", "T2"]
    assert [unit.area_km2 for unit in coverage.units] == pytest.approx([0.015, 0.01])
    assert coverage.area_km2 == pytest.approx(0.025)


def test_areas_are_ground_areas_not_grid_areas() -> None:
    assert laid([(0, 0, "T1")], [region()], scale=0.9996).units[0].area_km2 == pytest.approx(0.010008, rel=1e-4)


def test_ground_of_two_transects_belongs_to_the_first() -> None:
    coverage = laid([(0, 0, "T1"), (50, 0, "T2"), (500, 0, "T3")], [region()])
    assert [unit.area_km2 for unit in coverage.units] == pytest.approx([0.01, 0.005, 0.01])
    assert sum(unit.area_km2 for unit in coverage.units) == pytest.approx(coverage.area_km2)
    assert assign_to_units(np.array([[25.0, 0.0], [75.0, 0.0]]), coverage, 10.0).tolist() == [0, 1]


def test_a_transect_that_shows_nothing_new_is_no_sample() -> None:
    coverage = laid([(0, 0, "T1"), (0, 0, "T2")], [region()])
    assert [unit.transect for unit in coverage.units] == ["T1"]


def test_a_transect_flown_again_a_little_aside_is_one_sample_with_the_first() -> None:
    coverage = laid([(0, 0, "T1"), (500, 0, "T2"), (10, 0, "T1-2"), (505, 0, "T2-2"), (545, 0, "T3")], [region()])
    assert [(unit.transect, unit.repeats) for unit in coverage.units] == [
        ("T1", ("T1-2",)),
        ("T2", ("T2-2",)),
        ("T3", ()),
    ]
    assert [unit.area_km2 for unit in coverage.units] == pytest.approx([0.011, 0.0105, 0.004])
    assert coverage.units[0].frames == (0, 2)
    assert sum(unit.area_km2 for unit in coverage.units) == pytest.approx(coverage.area_km2)


def test_ground_outside_the_stratum_is_not_sampled_and_its_animals_are_outside() -> None:
    coverage = laid([(0, 0, "T1"), (500, 0, "T2")], [region(bounds=(-1000, -1000, 1000, 0))])
    assert [unit.area_km2 for unit in coverage.units] == pytest.approx([0.005, 0.005])
    counted = count([(0, -20), (0, 20), (500, -20)], [0, 0, 0], coverage)
    assert [unit.count for unit in counted.units if unit.species == "sheep"] == [1, 1]
    assert (counted.rows[0].unique, counted.rows[0].outside) == (3, 1)


def test_photos_belong_to_the_stratum_of_their_centre() -> None:
    regions = [region("west", 1, (-500, -500, 0, 500)), region("east", 1, (0, -500, 500, 500))]
    coverage = laid([(-100, 0, "T1"), (30, 0, "T1"), (100, 0, "T2")], regions)
    assert [(unit.stratum, unit.transect) for unit in coverage.units] == [
        ("west", "T1"), ("east", "T1"), ("east", "T2"),
    ]  # fmt: skip


def test_positions_just_outside_their_transect_go_to_it_and_far_ones_to_none() -> None:
    coverage = laid([(0, 0, "T1"), (500, 0, "T2")], [region()])
    assert assign_to_units(np.array([[53.0, 0.0], [446.0, 0.0], [250.0, 0.0]]), coverage, 10.0).tolist() == [0, 1, -1]


def test_photos_on_no_transect_are_in_the_area_and_in_no_unit() -> None:
    coverage = laid([(0, 0, "T1"), (500, 0, None)], [region()])
    assert len(coverage.units) == 1
    assert coverage.area_km2 == pytest.approx(0.02)


def test_more_flown_than_there_is_is_refused() -> None:
    coverage = laid([(0, 0, "T1"), (500, 0, "T2")], [region(area=0.015)])
    with pytest.raises(SurveyError, match=r"more than its 0\.015 km2"):
        check_against_strata(coverage, spec())
    check_against_strata(laid([(0, 0, "T1"), (500, 0, "T2")], [region(area=0.02)]), spec())
    few = Region("all", 1.0, None, 1.0)
    with pytest.raises(SurveyError, match="2 were flown"):
        check_against_strata(laid([(0, 0, "T1"), (500, 0, "T2")], [few]), spec())


def test_jolly_is_fed_with_every_transect_also_those_without_animals() -> None:
    coverage = laid([(0, 0, "T1"), (500, 0, "T2"), (1000, 0, "T3")], [region(area=0.3)])
    counted = count([(0, 0), (10, 0), (0, 30), (500, 0)], [0, 0, 1, 0], coverage)
    sheep, zebra = counted.rows
    assert (sheep.seen, sheep.unique) == (3, 3)
    assert sheep.estimate == pytest.approx(30)
    assert zebra.estimate == pytest.approx(10)
    assert sheep.density_per_km2 == pytest.approx(100)
    assert sheep.area_km2 == pytest.approx(0.03)
    assert [estimate.estimate.n for estimate in counted.estimates] == [3, 3]
    assert sheep.ci95 is not None


def test_strata_are_summed() -> None:
    regions = [region("west", 0.1, (-600, -500, 0, 500)), region("east", 0.2, (0, -500, 600, 500))]
    coverage = laid([(-400, 0, "A"), (-200, 0, "B"), (200, 0, "C"), (400, 0, "D")], regions)
    counted = count([(-400, 0), (-200, 0), (200, 0), (210, 0), (400, 0)], [0] * 5, coverage)
    sheep = [one for one in counted.estimates if one.species == "sheep"]
    assert [one.stratum for one in sheep] == ["west", "east", "all"]
    assert [one.estimate.estimate for one in sheep] == pytest.approx([10, 30, 40])
    assert counted.rows[0].estimate == pytest.approx(40)


def test_a_stratum_that_was_not_flown_leaves_no_total() -> None:
    regions = [region("west", 0.1, (-600, -500, 0, 500)), region("east", 0.2, (0, -500, 600, 500))]
    counted = count([(200, 0)], [0], laid([(200, 0, "C"), (400, 0, "D")], regions))
    assert counted.rows[0].estimate is None
    assert "No transect" in counted.rows[0].note


def test_total_coverage_needs_no_transects() -> None:
    coverage = laid([(0, 0, None), (80, 0, None)], [region(area=0.036)], "total")
    row = count([(0, 0), (10, 0)], [0, 0], coverage, "total").rows[0]
    assert row.estimate == pytest.approx(4)
    assert row.ci95 is None


def test_without_strata_there_is_a_density_and_no_estimate() -> None:
    row = count([(0, 0)], [0], laid([(0, 0, "T1")], [])).rows[0]
    assert (row.estimate, row.outside) == (None, 0)
    assert row.density_per_km2 == pytest.approx(100)
    assert "no strata" in row.note


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.sampled_from(["strip", "total"]))
def test_units_are_what_one_union_after_the_other_gives(seed: int, photos: int, sampling: str) -> None:
    rng = np.random.default_rng(seed)
    places = rng.uniform(-400, 400, (photos, 2)).tolist()
    flown = [(x, y, [None, "A", "B", "C"][int(rng.integers(4))]) for x, y in places]
    regions = [region("west", 1, (-500, -500, 0, 500)), region("east", 1, (0, -500, 500, 500))]
    coverage = laid(flown, regions, sampling)
    shown = [box(x - SIDE / 2, y - SIDE / 2, x + SIDE / 2, y + SIDE / 2) for x, y, _ in flown]
    assert coverage.area_km2 == pytest.approx(union_all(shown).area / 1e6)
    expected: dict[tuple[str, str], BaseGeometry] = {}
    for one in regions:
        taken: list[BaseGeometry] = []
        for name in ["all"] if sampling == "total" else ["A", "B", "C"]:
            mine = [shape for shape, (x, _, transect) in zip(shown, flown, strict=True)
                    if (x <= 0) == (one.name == "west") and (sampling == "total" or transect == name)]  # fmt: skip
            whole = union_all(mine).intersection(one.polygon)
            ground = whole.difference(union_all(taken))
            before = [unit for unit in expected if unit[0] == one.name and expected[unit].intersects(whole)]
            if before and ground.area < 0.2 * whole.area:
                # Too little new ground: it joins the unit that it repeats most.
                repeated = max(before, key=lambda unit: expected[unit].intersection(whole).area)
                expected[repeated] = expected[repeated].union(ground)
                taken.append(ground)
            elif ground.area > 1:
                expected[one.name, name] = ground
                taken.append(ground)
    assert [(unit.stratum, unit.transect) for unit in coverage.units] == list(expected)
    for unit, ground in zip(coverage.units, expected.values(), strict=True):
        assert unit.polygon.symmetric_difference(ground).area == pytest.approx(0, abs=1e-3)
    asked = rng.uniform(-500, 500, (200, 2))
    for place, found in zip(points(asked), assign_to_units(asked, coverage, 10.0).tolist(), strict=True):
        own = [row for row, unit in enumerate(coverage.units) if unit.stratum == ("west" if place.x <= 0 else "east")]
        apart = {row: coverage.units[row].polygon.distance(place) for row in own}
        nearest = min(apart, key=apart.__getitem__, default=-1)
        assert found == (nearest if apart.get(nearest, 11.0) <= 10 else -1)
