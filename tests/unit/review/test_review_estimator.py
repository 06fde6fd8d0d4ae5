import json
import math
from collections.abc import Sequence
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transect.errors import InputError
from transect.review.estimator.agreement import agreement
from transect.review.estimator.allocation import (
    PlannedCell,
    allocate_for_cv,
    allocate_for_seconds,
    expected_cv,
    seconds_of,
)
from transect.review.estimator.area import AreaEstimate, StratumDesign
from transect.review.estimator.cells import BoxBin, Cell, PhotoGroup, wilson
from transect.review.estimator.cells_file import estimate_cells
from transect.review.estimator.flown import Flown
from transect.review.estimator.perception import chapman, perception

CELLS: dict[str, Any] = {
    "transects": [{"area_km2": 3}, {"area_km2": 2}, {"area_km2": 3}, {"area_km2": 4}],
    "stratum_area_km2": 60,
    "transects_possible": 20,
    "bins": [
        {
            "boxes": 20,
            "weight_by_transect": [8, 4, 2, 6],
            "reviewed": [[0, 1, 1], [0, 0, 1], [1, 0, 1], [2, 0, 1], [3, 1, 1]],
        },
        {
            "boxes": 30,
            "weight_by_transect": [12, 6, 2, 10],
            "reviewed": [[0, 1, 1], [0, 1, 1], [1, 0, 1], [3, 1, 1], [3, 1, 1], [2, 1, 1]],
        },
        {
            "boxes": 50,
            "weight_by_transect": [20, 10, 4, 16],
            "reviewed": [[0, 1, 1], [0, 1, 1], [1, 1, 1], [3, 1, 1]],
        },
    ],
    "groups": [
        {
            "photos": 60,
            "z_by_transect": [15, 15, 15, 15],
            "searched": [[0, 1, 0], [0, 1, 0], [1, 1, 0], [1, 1, 1], [2, 1, 0], [3, 1, 0]],
        },
        {
            "photos": 20,
            "z_by_transect": [40, 20, 8, 32],
            "searched": [[0, 5, 1], [0, 10, 2], [1, 5, 0], [3, 4, 1], [3, 8, 1]],
        },
    ],
}
"""The worked example: its results were computed independently of this code."""


def write_cells(folder: Path, **changes: Any) -> Path:
    path = folder / "cells.json"
    path.write_text(json.dumps(CELLS | changes))
    return path


def box_bin(population: int, reviewed: Sequence[tuple[int, float, float]], sizes: list[float]) -> BoxBin:
    columns = np.array(reviewed, np.float64).reshape(-1, 3)
    return BoxBin(
        population=population,
        size_by_transect=np.array(sizes),
        transect=columns[:, 0].astype(np.int64),
        size=columns[:, 1],
        value=columns[:, 2],
    )


def photo_group(population: int, reviewed: Sequence[tuple[int, float, float]], sizes: list[float]) -> PhotoGroup:
    one = box_bin(population, reviewed, sizes)
    return PhotoGroup(
        population=population,
        size_by_transect=one.size_by_transect,
        transect=one.transect,
        size=one.size,
        value=one.value,
    )


def test_the_worked_example_comes_out(tmp_path: Path) -> None:
    found = estimate_cells(write_cells(tmp_path))
    expected = {
        "total": 108.625,
        "variance": 143.791016,
        "se": 11.991289,
        "limits": (79.510469, 186.492264),
        "precision": 0.83,
        "precision_se": 0.061644,
        "recall": 0.764097,
        "recall_se": 0.073579,
        "predicted_by_transect": (41.95, 22.225, 10.216667, 34.233333),
        "estimated_by_transect": (43.708333, 20, 7.783333, 37.133333),
        "lambda": 1.036646,
        "estimate": 543.125,
        "estimate_variance": 18687.9917,
        "estimate_se": 136.704029,
        "jolly2": (108.0718, 978.1782),
        "lognormal": (249.7402, 1327.2430),
    }
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=6e-5 if name in ("jolly2", "lognormal") else 6e-7, rel=3e-9)


def test_cells_of_the_worked_example(tmp_path: Path) -> None:
    # p or r, T, V and the limits of each cell.
    bins = [
        box_bin(one["boxes"], [(t, w, v * w) for t, v, w in one["reviewed"]], one["weight_by_transect"])
        for one in CELLS["bins"]
    ]
    groups = [photo_group(one["photos"], one["searched"], one["z_by_transect"]) for one in CELLS["groups"]]
    expected = [
        (0.4, 8, 18, 2.3524, 15.3855),
        (0.833333, 25, 20, 13.0949, 29.0984),
        (1, 50, 0, 25.5055, 50),
        (0.166667, 10, 90, 1.1764, 85.0071),
        (0.15625, 15.625, 15.791016, 4.7748, 51.1310),
    ]
    cells: list[BoxBin | PhotoGroup] = [*bins, *groups]
    for cell, (ratio, total, variance, low, high) in zip(cells, expected, strict=True):
        assert (cell.ratio, cell.total, cell.variance) == pytest.approx((ratio, total, variance), abs=5e-7)
        assert cell.limits == pytest.approx((low, high), abs=5e-5)
    flown = Flown(bins, groups)
    assert flown.variance_by_transect == pytest.approx([14.865764, 93.133108, 4.975556, 10.708889], abs=5e-7)


def test_every_possible_review_of_a_small_population_has_the_truth_as_its_mean() -> None:
    # Six boxes in two bins, five photos in two groups; each size is 1, so that the ratio estimate is unbiased.
    animals = [[1, 1, 0], [1, 0, 0]]
    transects = [[0, 1, 1], [0, 0, 1]]
    missed = [[0, 1, 2], [1, 0]]
    places = [[0, 1, 1], [0, 1]]
    totals, variances, sums = [], [], []
    bins = [
        [
            box_bin(3, [(where[i], 1, is_one[i]) for i in chosen], [where.count(0), where.count(1)])
            for chosen in combinations(range(3), 2)
        ]
        for is_one, where in zip(animals, transects, strict=True)
    ]
    groups = [
        [
            photo_group(len(m), [(where[i], 1, m[i]) for i in chosen], [where.count(0), where.count(1)])
            for chosen in combinations(range(len(m)), 2)
        ]
        for m, where in zip(missed, places, strict=True)
    ]
    for boxes, photos in product(product(*bins), product(*groups)):
        flown = Flown(boxes, photos)
        totals.append(flown.total)
        variances.append(flown.variance)
        sums.append(flown.estimated)
    assert len(totals) == 27
    assert np.mean(totals) == pytest.approx(7, abs=1e-12)
    assert np.mean(variances) == pytest.approx(np.var(totals), abs=1e-12)
    # Each transect's own total is nearly unbiased: its prediction is from the same sample, here of two items.
    assert np.mean(sums, axis=0) == pytest.approx([1 + 1 + 0 + 1, 1 + 0 + 3 + 0], abs=0.1)


def test_the_variance_of_any_part_is_one_formula() -> None:
    one = box_bin(20, [(0, 1, 1), (1, 0.5, 0), (1, 1, 1), (2, 1, 0)], [8, 6, 4])
    parts = [one.variance_of(np.eye(3)[number]) for number in range(3)]
    assert one.variance_by_transect == pytest.approx(parts)
    assert one.variance_of(np.ones(3)) == pytest.approx(one.variance)
    assert one.variance_of(np.full(3, 5.0)) == pytest.approx(25 * one.variance)


def test_items_that_were_all_reviewed_have_no_error() -> None:
    one = box_bin(3, [(0, 1, 1), (1, 0.5, 0), (1, 0.5, 0.5)], [1, 1])
    flown = Flown([one], [photo_group(2, [(0, 1, 0), (1, 1, 2)], [1, 1])])
    assert (flown.total, flown.variance) == (3.5, 0)
    assert flown.limits == (3.5, 3.5)
    assert flown.estimated == pytest.approx([1, 2.5])


def test_misses_in_photos_where_nothing_was_expected_count() -> None:
    found = photo_group(10, [(0, 0, 1), (1, 0, 0)], [0, 6])
    assert found.total == 5
    assert found.estimated.sum() == 5
    whole = photo_group(2, [(0, 0, 1), (1, 0, 0)], [0, 0])
    assert (whole.total, whole.variance) == (1, 0)


def test_none_found_has_the_exact_poisson_limit() -> None:
    group = photo_group(100, [(0, 1, 0)] * 10, [60, 40])
    assert group.limits == pytest.approx((0, -math.log(0.025) * 10))


def test_a_cell_without_two_reviewed_items_is_unknown(tmp_path: Path) -> None:
    for reviewed in ([], [[0, 1, 1]]):
        bins = [CELLS["bins"][0] | {"reviewed": reviewed}, *CELLS["bins"][1:]]
        assert set(estimate_cells(write_cells(tmp_path, bins=bins)).values()) == {None}


def test_perception_raises_what_was_missed() -> None:
    plain = photo_group(60, [(0, 1, 0)] * 5 + [(1, 1, 1)], [30, 30])
    raised = PhotoGroup(
        population=60,
        size_by_transect=plain.size_by_transect,
        transect=plain.transect,
        size=plain.size,
        value=plain.value,
        perception=0.8,
        perception_cv=0.1,
    )
    assert raised.total == pytest.approx(plain.total / 0.8)
    assert raised.variance == pytest.approx(plain.variance / 0.64 + (raised.total * 0.1) ** 2)
    assert raised.estimated == pytest.approx(plain.estimated / 0.8)
    assert raised.limits[1] > plain.limits[1] / 0.8
    # Two groups share one reader: their errors add before they are squared.
    both = Flown([], [raised, raised])
    assert both.variance == pytest.approx(2 * plain.variance / 0.64 + (2 * raised.total * 0.1) ** 2)
    assert both.variance_of(np.ones(2)) == pytest.approx(both.variance)


def test_recall_found_at_all_and_as_called() -> None:
    def one(reviewed: list[tuple[int, float, float]], **more: bool) -> BoxBin:
        columns = np.array(reviewed)
        return BoxBin(
            population=len(reviewed),
            size_by_transect=np.array([float(len(reviewed))]),
            transect=columns[:, 0].astype(np.int64),
            size=columns[:, 1],
            value=columns[:, 2],
            **more,
        )

    right = one([(0, 1, 1), (0, 1, 1), (0, 1, 0)])
    other = one([(0, 1, 1), (0, 1, 0)], called=False)
    candidate = one([(0, 1, 1), (0, 1, 0), (0, 1, 0), (0, 1, 0)], counted=False)
    flown = Flown([right, other, candidate], [photo_group(1, [(0, 1, 1)], [1])])
    assert flown.total == 5
    assert flown.precision is not None
    assert flown.precision.value == pytest.approx(2 / 3)
    recalls = [flown.recall(), flown.recall(as_called=True)]
    assert [one.value for one in recalls if one] == pytest.approx([3 / 5, 2 / 5])


def test_strata_add_and_a_part_has_its_own_limits() -> None:
    flown = Flown(
        [box_bin(40, [(0, 1, 1), (1, 1, 0), (2, 1, 1), (3, 1, 1), (0, 1, 1)], [12, 8, 9, 11])],
        [photo_group(40, [(0, 1, 0), (1, 1, 1), (2, 1, 0), (3, 1, 1)], [10, 10, 10, 10])],
    )
    first = StratumDesign("a", np.array([0, 1]), np.array([2.0, 3.0]), 50)
    second = StratumDesign("b", np.array([2, 3]), np.array([2.0, 2.0]), 40)
    parts = [AreaEstimate(flown, [one]) for one in (first, second)]
    both = AreaEstimate(flown, [first, second])
    assert both.estimate == pytest.approx(sum(one.estimate for one in parts))
    assert both.total == pytest.approx(flown.total)
    assert both.flown_limits == flown.limits
    for one in parts:
        low, high = one.flown_limits
        assert low < one.total < high
        # A part is less sure than the whole.
        assert high / low > both.flown_limits[1] / both.flown_limits[0]
        limits = one.limits("bootstrap")
        assert limits is not None
        assert 0 < limits[0] < one.estimate < limits[1]


@given(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from([0.25, 0.5, 1.0]), st.booleans()), min_size=2, max_size=12),
    st.randoms(),
)
def test_the_order_of_decisions_does_not_matter(rows: list[tuple[int, float, bool]], random: Any) -> None:
    reviewed = [(t, w, w * v) for t, w, v in rows]
    shuffled = reviewed.copy()
    random.shuffle(shuffled)
    a, b = (box_bin(40, one, [10.0, 10.0, 10.0, 10.0]) for one in (reviewed, shuffled))
    assert (a.total, a.variance) == pytest.approx((b.total, b.variance), abs=1e-9)


def test_wilson_limits_stay_within_a_share() -> None:
    assert wilson(0.4, 5) == pytest.approx((0.117621, 0.769276), abs=5e-7)
    assert wilson(1.0, 4)[1] == 1
    assert wilson(0.0, 4)[0] == 0
    assert wilson(0.0, 0) == (0, 1)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"bins": [CELLS["bins"][0] | {"boxes": 4}]}, "bins.0: 5 are reviewed, more than the 4 that there are"),
        ({"bins": [CELLS["bins"][0] | {"weight_by_transect": [1]}]}, "bins.0 has 1 sums by transect for 4 transects"),
        ({"bins": [CELLS["bins"][0] | {"reviewed": [[7, 1, 1]]}]}, "bins.0: transects are numbered from 0 to 3"),
        ({"bins": [CELLS["bins"][0] | {"reviewed": [[0, 2, 1]]}]}, "bins.0.reviewed.0.1: Input should be 0 or 1"),
        ({"groups": [CELLS["groups"][0] | {"photos": -1}]}, "groups.0.photos: Input should be greater than or equal"),
        ({"stratum_area_km2": 5}, "the transects cover 12 km2, more than the stratum's 5 km2"),
        ({"transects_possible": 3}, "3 possible transects are fewer than the 4 that were flown"),
        ({"more": 1}, "more: Extra inputs are not permitted"),
    ],
)
def test_a_cells_file_that_cannot_be_is_refused(tmp_path: Path, changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError) as refused:
        estimate_cells(write_cells(tmp_path, **changes))
    assert sentence in str(refused.value)
    assert "cells.json" in str(refused.value)


def test_more_of_a_sample_than_of_all_is_refused() -> None:
    with pytest.raises(ValueError, match="one length"):
        Cell(
            population=3,
            size_by_transect=np.ones(1),
            transect=np.zeros(1, np.int64),
            size=np.ones(2),
            value=np.ones(1),
        )
    with pytest.raises(ValueError, match="not below zero"):
        box_bin(3, [(0, 1, -1)], [3])


PLAN = [
    *(PlannedCell(population=m, sd=math.sqrt(p * (1 - p)), cost=3) for m, p in ((400, 0.2), (500, 0.5))),
    *(PlannedCell(population=m, sd=math.sqrt(p * (1 - p)), cost=3) for m, p in ((600, 0.85), (900, 0.97))),
    *(PlannedCell(population=p, sd=sd, cost=60) for p, sd in ((700, 0.1), (250, 0.6), (50, 2.5))),
]


def test_the_worked_plan_comes_out() -> None:
    found = allocate_for_cv(PLAN, 1895, 0.03)
    expected = [94.4050, 147.5077, 126.4099, 90.5866, 9.2354, 19.7902, 16.4919]
    assert found == pytest.approx(expected, abs=5e-5)
    rounded = np.ceil(found)
    assert expected_cv(PLAN, rounded, 1895) == pytest.approx(0.0296, abs=5e-5)
    assert seconds_of(PLAN, rounded) == 4203


def test_the_best_for_a_time_is_the_best_for_its_precision() -> None:
    by_cv = allocate_for_cv(PLAN, 1895, 0.03)
    assert allocate_for_seconds(PLAN, seconds_of(PLAN, by_cv)) == pytest.approx(by_cv)


def test_a_plan_takes_no_more_than_there_is_and_keeps_what_was_done() -> None:
    cells = [
        PlannedCell(population=5, sd=3, cost=1),
        PlannedCell(population=1000, sd=0.5, cost=1),
        PlannedCell(population=1000, sd=0.01, cost=1, least=30),
        PlannedCell(population=10, sd=0, cost=1, least=2),
    ]
    found = allocate_for_cv(cells, 500, 0.05)
    assert found[0] == 5
    assert found[2] == 30
    assert found[3] == 2
    assert expected_cv(cells, found, 500) == pytest.approx(0.05)
    assert allocate_for_cv(cells, 500, 0.0)[:3].tolist() == [5, 1000, 1000]
    assert allocate_for_seconds(cells, 10).tolist() == [0, 0, 30, 2]
    assert seconds_of(cells, allocate_for_seconds(cells, 200)) == pytest.approx(200)


def test_perception_is_the_readers_share_of_the_models_animals() -> None:
    found = perception([(10, 9), (0, 0), (20, 18), (10, 9)])
    assert found is not None
    assert (found.share, found.found, found.shown, found.photos) == (0.9, 36, 40, 4)
    assert 0 < found.se < 0.1
    assert perception([(10, 9), (20, 18), (0, 0), (10, 9)]) == found
    assert perception([(0, 0)]) is None
    # One photo, or nothing missed, is no proof that nothing ever is.
    alone = perception([(4, 4)])
    assert alone is not None
    assert alone.share == 1
    assert alone.se > 0.1


def test_chapmans_number() -> None:
    assert chapman(40, 45, 36) == pytest.approx((49.972973, 1.305140), abs=5e-7)


def test_kappa() -> None:
    pairs = [("keep", "keep")] * 20 + [("keep", "reject")] * 5 + [("reject", "keep")] * 10 + [("reject", "reject")] * 15
    found = agreement(pairs)
    assert found is not None
    # By hand: observed 0.7, expected 0.5 x 0.6 + 0.5 x 0.4 = 0.5.
    assert (found.items, found.agreed, found.share) == (50, 35, 0.7)
    assert found.kappa == pytest.approx(0.4)
    alike = agreement([("keep", "keep")])
    assert alike is not None
    assert alike.kappa is None
    assert agreement([]) is None
