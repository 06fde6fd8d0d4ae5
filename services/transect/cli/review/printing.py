"""Tables of a review's plan and of its numbers."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from transect.review.planning.plan import ReviewPlan


def print_plan(plan: "ReviewPlan", review: Path, *, as_json: bool) -> None:
    """Print a plan as a table or, unrounded, as JSON."""
    if as_json:
        print(json.dumps(plan_record(plan), indent=2, allow_nan=False))
        return
    table = Table("bin or group", "all", "done", "next", "minutes")
    for step in plan.steps:
        table.add_row(
            f"{step.kind}: {step.name}",
            str(step.population),
            str(step.reviewed),
            str(step.following),
            f"{step.seconds / 60:.0f}",
        )
    Console().print(table)
    expected = Table("animals on the flown ground", "about", "95% limits now", "then, about")
    for one in plan.expectations:
        now = "unknown" if one.limits_now is None else _limits(one.limits_now)
        expected.add_row(one.species, f"{one.total:.0f}", now, _limits(one.limits_after))
    Console().print(expected)
    crops, photos = (sum(one.following for one in plan.steps if one.kind == kind) for kind in ("crops", "photos"))
    if crops + photos == 0:
        print("The aim is reached. Next: transect review estimate.")
        return
    what = "First a pilot, from which the rest is planned" if plan.pilot else "Next"
    later = f", and then about {plan.later_seconds / 60:.0f} minutes more" if plan.later_seconds >= 60 else ""
    times = "as measured so far" if plan.measured else "as people usually take"
    print(
        f"{what}: {crops} crops and {photos} photos, {plan.seconds / 60:.0f} minutes{later} ({plan.costs.box:.0f} s a "
        f"crop and {plan.costs.photo:.0f} s a photo, {times})."
    )
    print(f'Hand them out with: transect review export "{review}" --to FOLDER')


def plan_record(plan: "ReviewPlan") -> dict[str, Any]:
    """A plan as JSON values; None is what is infinite or unknown."""
    return {
        "target": {"cv": plan.target.cv, "minutes": plan.target.minutes, "species": plan.target.species},
        "pilot": plan.pilot,
        "seconds_a_crop": plan.costs.box,
        "seconds_a_photo": plan.costs.photo,
        "seconds": plan.seconds,
        "later_seconds": plan.later_seconds,
        "steps": [
            {
                "kind": one.kind,
                "name": one.name,
                "items": one.population,
                "reviewed": one.reviewed,
                "next": one.following,
                "seconds": one.seconds,
            }
            for one in plan.steps
        ],
        "expected": [
            {
                "species": one.species,
                "flown": one.total,
                "ci95_now": _finite(one.limits_now),
                "cv_after": one.cv_after if math.isfinite(one.cv_after) else None,
                "ci95_after": _finite(one.limits_after),
            }
            for one in plan.expectations
        ],
    }


def print_estimate(record: Mapping[str, Any], *, as_json: bool) -> None:
    """Print the numbers of a review as tables or, unrounded, as JSON."""
    if as_json:
        print(json.dumps(record, indent=2, allow_nan=False))
        return
    table = Table("species", "machine", "checked", "95% limits", "precision", "recall", "study area", "95% limits")
    for one in record["species"]:
        machine = one["machine"] or {}
        whole = one["strata"][-1] if one["strata"] else {}
        table.add_row(
            one["species"],
            _number(machine.get("single_look")),
            _number(one["flown"], "unknown"),
            _limits(one["flown_ci95"]),
            _share(one["precision"], one["precision_se"]),
            _share(one["recall"], one["recall_se"]),
            _number(whole.get("estimate")),
            _limits(whole.get("ci95")),
        )
    Console().print(table)
    print(
        "machine: boxes that count, in a single look; checked: animals on the flown ground, from what people decided."
    )
    for one in record["species"]:
        if one["unknown"] and one["species"] == "all":
            print(f"Too little was reviewed to say a total. Its share is unknown of: {'; '.join(one['unknown'])}.")
    reviewed = record["reviewed"]
    if reviewed["boxes_waiting"] + reviewed["photos_waiting"]:
        print(
            f"{reviewed['boxes_waiting']} boxes and {reviewed['photos_waiting']} photos wait: one before them in the "
            "random order has no decision yet."
        )
    if reviewed["boxes_unsure"]:
        print(
            f"Of {reviewed['boxes_unsure']} boxes people cannot say what they are, or disagree "
            f"({reviewed['boxes_disputed']}); here they are no animals, and estimate.json has both."
        )


def _number(value: float | None, otherwise: str = "-") -> str:
    return otherwise if value is None else f"{value:.0f}"


def _limits(limits: Sequence[float] | None) -> str:
    if limits is None or not all(map(math.isfinite, limits)):
        return "-"
    return f"{limits[0]:.0f}-{limits[1]:.0f}"


def _share(value: float | None, error: float | None) -> str:
    # Without an error among what was reviewed the standard error is zero, and says nothing.
    return "-" if value is None else f"{value:.2f}" + (f" ± {error:.2f}" if error else "")


def _finite(limits: Sequence[float] | None) -> list[float] | None:
    return None if limits is None or not all(map(math.isfinite, limits)) else list(limits)
