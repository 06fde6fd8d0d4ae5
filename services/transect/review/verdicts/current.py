"""Which decisions stand: those that nothing supersedes, and what several people's decisions on one item say. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import combinations
from typing import Literal, TypeVar

from transect.review.decisions.decision import Decision, PhotoSearch
from transect.review.estimator.agreement import Agreement, agreement

_EARLIEST = datetime.min.replace(tzinfo=UTC)
_Made = TypeVar("_Made", Decision, PhotoSearch)
Finding = Literal["animal", "none", "duplicate", "unsure"]


@dataclass(frozen=True)
class BoxFinding:
    """What people say of a box: an animal of `species`, none, one that another box covers, or that they cannot say.

    `disputed` is true where they disagree and no lead settled it; such a box is unsure.
    """

    finding: Finding
    species: str
    disputed: bool = False


def standing(made: Iterable[_Made]) -> dict[str, tuple[_Made, ...]]:
    """By item, the decisions or searches that stand: the last one of each person that none of them replaced.

    Of two that do not name each other the later one stands, of two of one time that with the greater uuid, so that the
    order in which they came does not matter. The items and the persons are in the order of their names.
    """
    every = list(made)
    replaced = {one.supersedes for one in every if one.supersedes}
    last: dict[tuple[str, str], _Made] = {}
    for one in sorted((one for one in every if one.uuid not in replaced), key=_when):
        last[_item(one), one.reviewer] = one
    found: dict[str, list[_Made]] = defaultdict(list)
    for (item, _), one in sorted(last.items(), key=lambda pair: pair[0]):
        found[item].append(one)
    return {item: tuple(ones) for item, ones in found.items()}


def settled(ones: Sequence[_Made]) -> Sequence[_Made]:
    """The last decision of a lead where there is one, else all of them."""
    leads = [one for one in ones if one.settles]
    return ones if not leads else [max(leads, key=_when)]


def box_finding(ones: Sequence[Decision], called: str) -> BoxFinding:
    """What the standing decisions on a box, which the model called `called`, say together."""
    said = {_said(one, called) for one in settled(ones)}
    if len(said) > 1:
        return BoxFinding("unsure", called, disputed=True)
    return BoxFinding(*said.pop())


def agreement_of(decided: Mapping[str, Sequence[Decision]], called: Mapping[str, str]) -> Agreement | None:
    """How well two people agree, over all pairs of them with an item that both decided on; without what a lead said."""
    pairs = []
    for item, ones in decided.items():
        plain = sorted((one for one in ones if not one.settles), key=lambda one: one.reviewer)
        for first, second in combinations(plain, 2):
            pairs.append((" ".join(_said(first, called[item])), " ".join(_said(second, called[item]))))
    return agreement(pairs)


def _said(one: Decision, called: str) -> tuple[Finding, str]:
    match one.verdict:
        case "keep":
            return "animal", called
        case "species":
            return "animal", one.species
        case "reject":
            return "none", ""
        case "duplicate":
            return "duplicate", ""
        case "unsure":
            return "unsure", called


def _item(one: Decision | PhotoSearch) -> str:
    return one.box_key if isinstance(one, Decision) else one.photo_sha256


def _when(one: Decision | PhotoSearch) -> tuple[datetime, str]:
    made_at = one.decided_at if isinstance(one, Decision) else one.done_at
    return made_at or _EARLIEST, one.uuid
