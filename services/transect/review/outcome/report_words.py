"""The sentences of a review's report: what people say first, and the machine beside it. Pure."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from transect.pages.numbers import count_text, figures, number_text
from transect.review.outcome.checked import ALL
from transect.review.outcome.record import minutes_spent
from transect.wording import count_of

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Sentence:
    """The sentence of one species in parts: `head` is what people say, `tail` its limits and the machine's number.

    `area` is the sentence on the study area, empty without one.
    """

    head: str
    tail: str
    area: str


def summary_sentence(one: Record, record: Record) -> Sentence:
    """The summary of one species, or of all, from its numbers in a review's record."""
    name = "animals of all species" if one["species"] == ALL else one["species"]
    checked = f"as far as {work_text(record)}" if record["reviewed"]["reviewers"] else work_text(record)
    if one["flown"] is None:
        return Sentence(
            f"How many {name} are on the flown ground is not known yet",
            f"(people saw {number_text(one['seen'])}, {checked}). {_machine_text(one['machine'])}",
            _area_text(one, name),
        )
    limits = one["flown_ci95"]
    return Sentence(
        f"{count_text(one['flown'])} {name} on the flown ground",
        f"(95% limits {count_text(limits[0])} to {count_text(limits[1])}), {checked}. {_machine_text(one['machine'])}",
        _area_text(one, name),
    )


def work_text(record: Record) -> str:
    """Who checked how much in which time, as a clause: `2 people checked 210 boxes and 60 photos in 64 minutes`."""
    reviewed = record["reviewed"]
    if not reviewed["reviewers"]:
        return "nobody has checked anything yet"
    people = count_of(len(reviewed["reviewers"]), "person", "people")
    boxes, photos = count_of(reviewed["boxes"], "box", "boxes"), count_of(reviewed["photos"], "photo")
    time = time_text(record)
    return f"{people} checked {boxes} and {photos}" + (f" in {time}" if time else "")


def time_text(record: Record) -> str:
    """The time of all people together, and of how many items it is where not of all; empty where nobody recorded it."""
    spent, timed, items = minutes_spent(record)
    if not timed:
        return ""
    minutes = "less than a minute" if spent < 0.5 else count_of(math.floor(spent + 0.5), "minute")
    return minutes if timed == items else f"{minutes} for {timed} of {items} decisions and searches"


def area_text(km2: float) -> str:
    """An area without zeros at its end, so that no reader takes the point for one between thousands."""
    text = figures(km2, 4)
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text} km²"


def share_text(share: float | None, error: float | None) -> str:
    """A share in percent with its standard error; a dash for None."""
    if share is None:
        return "–"
    return f"{100 * share:.1f}" + (f" ± {100 * error:.1f}" if error else "") + "\u202f%"


def range_text(low: float, high: float | None) -> str:
    """What a group of photos expects: `0.35 to 2`, `2 or more`."""
    return f"{low:g} or more" if high is None else f"{low:g} to {high:g}"


def _machine_text(machine: Record | None) -> str:
    if machine is None:
        return "The machine does not report this species."
    corrected = machine["corrected"]
    after = "" if corrected is None else f", and {count_text(corrected)} once corrected for its errors in validation"
    return f"The machine alone says {count_text(machine['single_look'])}{after}."


def _area_text(one: Record, name: str) -> str:
    """The study area in a sentence; why there is no number, where there is none."""
    if not one["strata"]:
        return ""
    whole = one["strata"][-1]
    place = f"In the study area of {area_text(whole['stratum_km2'])}"
    machine = "" if not one["machine"] or one["machine"]["estimate"] is None else _machine_area(one["machine"])
    if whole["estimate"] is None:
        reason = "too little is checked" if one["flown"] is None else whole["note"].rstrip(".")
        return f"{place} their number is not known: {reason}.{machine}"
    limits = whole["ci95"]
    inside = "without limits" if limits is None else f"95% limits {count_text(limits[0])} to {count_text(limits[1])}"
    note = f" {whole['note']}" if whole["note"] else ""
    return f"{place}: {count_text(whole['estimate'])} {name} ({inside}).{note}{machine}"


def _machine_area(machine: Record) -> str:
    limits = machine["ci95"]
    inside = "" if limits is None else f" ({count_text(limits[0])} to {count_text(limits[1])})"
    return f" The machine alone says {count_text(machine['estimate'])}{inside}."
