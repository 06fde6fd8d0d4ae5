"""Which decisions stand, what they say together, and which animals that people add have a box already."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import permutations

import numpy as np
import pytest

from transect.engine.boxes.overlaps import iou_matrix
from transect.review.decisions.decision import Decision, PhotoSearch, Verdict
from transect.review.verdicts.added import covered
from transect.review.verdicts.current import BoxFinding, agreement_of, box_finding, settled, standing

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


def decision(
    uuid: str, verdict: Verdict = "keep", reviewer: str = "Anna", minute: int | None = 0, **more: object
) -> Decision:
    made = Decision(
        uuid=uuid,
        photo_sha256="p",
        box_key="b",
        verdict=verdict,
        reviewer=reviewer,
        drawn="sample",
        decided_at=None if minute is None else NOON + timedelta(minutes=minute),
    )
    return replace(made, **more)  # type: ignore[arg-type]


def test_the_last_decision_of_a_person_stands_in_any_order() -> None:
    made = [decision("1"), decision("2", "reject", minute=5), decision("3", reviewer="Ben", minute=1)]
    for order in permutations(made):
        assert [one.uuid for one in standing(order)["b"]] == ["2", "3"]


def test_what_a_decision_replaces_falls_whatever_the_clocks_say() -> None:
    made = [decision("1", minute=60), decision("2", "reject", minute=0, supersedes="1")]
    for order in permutations(made):
        assert [one.uuid for one in standing(order)["b"]] == ["2"]


def test_without_times_the_greater_uuid_stands() -> None:
    made = [decision("2", minute=None), decision("1", "reject", minute=None)]
    for order in permutations(made):
        assert [one.uuid for one in standing(order)["b"]] == ["2"]


@pytest.mark.parametrize(
    ("verdict", "species", "finding"),
    [
        ("keep", "", BoxFinding("animal", "zebra")),
        ("species", "sheep", BoxFinding("animal", "sheep")),
        ("reject", "", BoxFinding("none", "")),
        ("duplicate", "", BoxFinding("duplicate", "")),
        ("unsure", "", BoxFinding("unsure", "zebra")),
    ],
)
def test_a_verdict_says_what_a_box_is(verdict: Verdict, species: str, finding: BoxFinding) -> None:
    assert box_finding([decision("1", verdict, species=species)], "zebra") == finding


def test_people_who_disagree_leave_a_box_unsure_until_a_lead_settles() -> None:
    two = [decision("1"), decision("2", "reject", "Ben")]
    assert box_finding(two, "zebra") == BoxFinding("unsure", "zebra", disputed=True)
    lead = decision("3", "reject", "Clea", settles=True)
    assert box_finding([*two, lead], "zebra") == BoxFinding("none", "")
    later = decision("0", "keep", "Dan", minute=9, settles=True)
    assert settled([lead, *two, later]) == [later]
    # Whoever names the species that the model named keeps it.
    same = [decision("1"), decision("2", "species", "Ben", species="zebra")]
    assert box_finding(same, "zebra") == BoxFinding("animal", "zebra")


def test_agreement_leaves_a_lead_out() -> None:
    decided = {
        "1": (decision("1"), decision("2", reviewer="Ben")),
        "2": (decision("3"), decision("4", "reject", "Ben"), decision("5", "reject", "Clea", settles=True)),
        "3": (decision("6"),),
    }
    found = agreement_of(decided, dict.fromkeys(decided, "zebra"))
    assert found is not None
    assert (found.items, found.agreed) == (2, 1)
    assert agreement_of({"3": decided["3"]}, {"3": "zebra"}) is None


def test_searches_stand_as_decisions_do() -> None:
    first = PhotoSearch(uuid="1", photo_sha256="p", reviewer="Anna", drawn="sample", blind=True)
    second = replace(first, uuid="0", supersedes="1")
    assert standing([first, second]) == standing([second, first]) == {"p": (second,)}


def test_iou_of_boxes() -> None:
    first = np.array([[0.0, 0, 10, 10], [20, 20, 30, 30]])
    second = np.array([[0.0, 0, 10, 10], [5, 0, 15, 10], [100, 100, 110, 110]])
    assert iou_matrix(first, second) == pytest.approx(np.array([[1, 1 / 3, 0], [0, 0, 0]]))
    assert iou_matrix(np.empty((0, 4)), second).shape == (0, 3)


def test_a_box_covers_one_animal_and_the_best_one() -> None:
    drawn = np.array([[0.0, 0, 10, 10], [2, 0, 12, 10], [50, 50, 60, 60]])
    found = np.array([[1.9, 0, 11.9, 10]])
    hit, taken = covered(drawn, found)
    assert (hit.tolist(), taken.tolist()) == ([False, True, False], [True])
    hit, taken = covered(drawn, np.empty((0, 4)))
    assert (hit.tolist(), taken.tolist()) == ([False, False, False], [])
