"""The numbers of a review as JSON values: estimate.json, from which counts.csv and the report are made. Pure."""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from transect.review.estimator.cells import BoxBin, wilson
from transect.review.estimator.flown import Share
from transect.review.folder.manifest import CountedSpecies
from transect.review.outcome.checked import ALL, Checked, CheckedArea, CheckedReview, unknown_cells
from transect.review.verdicts.current import settled
from transect.review.verdicts.truth import Truth

SCHEMA = 1
NOT_CHECKED = "no animal"
"""What a rejected or duplicate box is in the confusion of species."""


def review_record(truth: Truth) -> dict[str, Any]:
    """All numbers of a review, unrounded; None is what does not exist or is unknown."""
    review = CheckedReview(truth)
    otherwise = CheckedReview(truth, unsure=True) if truth.unsure else None
    manifest = truth.items.manifest
    return {
        "schema": SCHEMA,
        "review": {"id": manifest.id, "name": manifest.name, "seed": manifest.seed},
        "survey": {"name": manifest.survey.name, "digest": manifest.survey.digest},
        "census": {"run": manifest.census.run, "method": manifest.census.method},
        "model": manifest.model.model_dump(),
        "reviewed": _reviewed(truth, review),
        "species": _species(review, otherwise),
        "bins": _bins(review),
        "groups": _groups(review),
        "confusion": _confusion(truth),
        "transects": _transects(review),
        "left_out": dict(manifest.left_out),
    }


def _species(review: CheckedReview, otherwise: CheckedReview | None) -> list[dict[str, Any]]:
    counted = {one.name: one for one in review.truth.items.manifest.counted}
    others = otherwise.species if otherwise is not None else (None,) * len(review.species)
    return [
        {
            "species": one.species,
            # Limits that rest on people's decisions hold for any detector.
            "state": "reviewed" if one.known else "unknown",
            "machine": _machine(one.species, counted),
            **_numbers(one),
            "unknown": unknown_cells(review, one.flown),
            "if_unsure_are_animals": None if other is None else _numbers(other),
        }
        for one, other in zip(review.species, others, strict=True)
    ]


def _numbers(one: Checked) -> dict[str, Any]:
    flown = one.flown
    empty = Share(math.nan, math.nan)
    known = one.known
    shares = {
        "precision": flown.precision if known else None,
        "recall": flown.recall() if known else None,
        "recall_as_called": flown.recall(as_called=True) if known else None,
    }
    return {
        "flown": flown.total if known else None,
        "flown_se": math.sqrt(flown.variance) if known else None,
        "flown_ci95": None if one.limits is None else list(one.limits),
        "seen": one.seen,
        **{
            f"{name}{suffix}": None if share is None else value
            for name, share in shares.items()
            for suffix, value in (("", (share or empty).value), ("_se", (share or empty).se))
        },
        "strata": [_area(area) for area in one.areas],
    }


def _area(one: CheckedArea) -> dict[str, Any]:
    return {
        "stratum": one.stratum,
        "n": one.n,
        "area_km2": one.area_km2,
        "stratum_km2": one.stratum_km2,
        "flown": one.flown,
        "flown_ci95": None if one.flown_limits is None else list(one.flown_limits),
        "estimate": one.estimate,
        "variance": one.variance,
        "se": one.se,
        "ci95": None if one.limits is None else list(one.limits),
        "lambda": one.lambda_,
        "df": one.df,
        "note": one.note,
    }


def _machine(species: str, counted: Mapping[str, CountedSpecies]) -> dict[str, Any] | None:
    """What the census says, for the sum of species only where numbers add."""
    if species in counted:
        return counted[species].model_dump(mode="json", exclude={"name"})
    if species != ALL:
        return None
    every = counted.values()
    estimates = [one.estimate for one in every if one.estimate is not None]
    corrected = [one.corrected for one in every if one.corrected is not None]
    return {
        "seen": sum(one.seen for one in every),
        "single_look": sum(one.single_look for one in every),
        "unique": sum(one.unique for one in every),
        "corrected": sum(corrected) if len(corrected) == len(counted) else None,
        "estimate": sum(estimates) if len(estimates) == len(counted) else None,
        "ci95": None,
        "detector": "",
        "note": "Limits of several species do not add.",
    }


def _reviewed(truth: Truth, review: CheckedReview) -> dict[str, Any]:
    waiting_boxes = truth.box_decided & ~truth.box_chosen & ~review.cells.box_sample
    waiting_photos = truth.photo_searched & ~truth.photo_chosen & ~review.cells.photo_sample
    reader, agreed = truth.reader, truth.agreement
    return {
        "boxes": int(truth.box_decided.sum()),
        "boxes_by_choice": int((truth.box_decided & truth.box_chosen).sum()),
        "boxes_waiting": int(waiting_boxes.sum()),
        "boxes_unsure": truth.unsure,
        "boxes_disputed": truth.disputed,
        "photos": int(truth.photo_searched.sum()),
        "photos_by_choice": int((truth.photo_searched & truth.photo_chosen).sum()),
        "photos_waiting": int(waiting_photos.sum()),
        "animals_added": len(truth.missed),
        "reviewers": _reviewers(truth),
        "agreement": None
        if agreed is None
        else {"items": agreed.items, "agreed": agreed.agreed, "share": agreed.share, "kappa": agreed.kappa},
        "reader": None
        if reader is None
        else {
            "share": reader.share,
            "se": reader.se,
            "found": reader.found,
            "shown": reader.shown,
            "photos": reader.photos,
        },
    }


def _reviewers(truth: Truth) -> list[dict[str, Any]]:
    """Each person's work; `minutes` is of the items whose time is known, `timed`, and None for none."""
    boxes, photos, timed, took = Counter[str](), Counter[str](), Counter[str](), defaultdict[str, int](int)
    for ones in truth.decided.values():
        for one in ones:
            boxes[one.reviewer] += 1
            timed[one.reviewer] += one.milliseconds is not None
            took[one.reviewer] += one.milliseconds or 0
    for searches in truth.searches.values():
        for search in searches:
            photos[search.reviewer] += 1
            timed[search.reviewer] += search.milliseconds is not None
            took[search.reviewer] += search.milliseconds or 0
    return [
        {
            "reviewer": name,
            "boxes": boxes[name],
            "photos": photos[name],
            "timed": timed[name],
            "minutes": took[name] / 60_000 if timed[name] else None,
        }
        for name in sorted({*boxes, *photos})
    ]


def _bins(review: CheckedReview) -> list[dict[str, Any]]:
    """Each bin with the share of its boxes that are an animal of any species."""
    population, flown = review.truth.items.population, review.species[-1].flown
    found = []
    for number, one in enumerate(population.bins):
        sample, chosen = flown.bins[2 * number], flown.bins[2 * number + 1]
        found.append(
            {
                "species": one.species,
                "low": one.low,
                "high": one.high,
                "counted": one.counted,
                "boxes": sample.population + chosen.population,
                "reviewed": sample.reviewed,
                "by_choice": chosen.reviewed,
                "share": sample.ratio if sample.reviewed else None,
                "share_ci95": list(wilson(sample.ratio, sample.reviewed)) if sample.reviewed else None,
                "animals": _bin_total((sample, chosen)),
            }
        )
    return found


def _bin_total(cells: Sequence[BoxBin]) -> float | None:
    held = [one for one in cells if one.population]
    return sum(one.total for one in held) if all(one.is_known for one in held) else None


def _groups(review: CheckedReview) -> list[dict[str, Any]]:
    """Each group with the animals that no box covers."""
    population, flown = review.truth.items.population, review.species[-1].flown
    found = []
    for number, one in enumerate(population.groups):
        sample, chosen = flown.groups[2 * number], flown.groups[2 * number + 1]
        held = [cell for cell in (sample, chosen) if cell.population]
        known = all(cell.is_known for cell in held)
        found.append(
            {
                "low": one.low,
                "high": None if math.isinf(one.high) else one.high,
                "photos": sample.population + chosen.population,
                "reviewed": sample.reviewed,
                "by_choice": chosen.reviewed,
                "found": float(sample.value.sum() + chosen.value.sum()),
                "animals": sum(cell.total for cell in held) if known else None,
            }
        )
    return found


def _confusion(truth: Truth) -> list[dict[str, Any]]:
    """How many decided boxes that the model called one species are of another, of none, or not known."""
    boxes, names = truth.items.boxes, truth.items.manifest.species
    counts = Counter[tuple[str, bool, str]]()
    for row, one in truth.finding.items():
        said = {"animal": one.species, "unsure": "unsure"}.get(one.finding, NOT_CHECKED)
        counts[names[boxes.species[row]], bool(boxes.counted[row]), said] += 1
    return [
        {"called": called, "counted": counted, "is": said, "boxes": number}
        for (called, counted, said), number in sorted(counts.items())
    ]


def _transects(review: CheckedReview) -> list[dict[str, Any]]:
    """The animals on each transect as predicted and as estimated, by species; None where a share is unknown."""
    found = []
    for row, unit in enumerate(review.truth.items.coverage.units):
        found.append(
            {
                "stratum": unit.stratum,
                "transect": unit.transect,
                "area_km2": unit.area_km2,
                "species": {
                    one.species: {
                        "predicted": float(one.flown.predicted[row]) if one.known else None,
                        "estimated": float(one.flown.estimated[row]) if one.known else None,
                    }
                    for one in review.species
                },
            }
        )
    return found


def minutes_spent(record: Mapping[str, Any]) -> tuple[float, int, int]:
    """The minutes of all people together, of how many items they are, and how many items there are."""
    people = record["reviewed"]["reviewers"]
    spent = sum(one["minutes"] or 0.0 for one in people)
    timed = sum(one["timed"] for one in people)
    return spent, timed, sum(one["boxes"] + one["photos"] for one in people)


def standing_boxes(truth: Truth) -> list[tuple[int, str, str]]:
    """Each box that people call an animal: its row, the species, and who says so."""
    found = []
    for row, one in sorted(truth.finding.items()):
        if one.finding == "animal":
            people = ", ".join(sorted({decision.reviewer for decision in settled(truth.decided[row])}))
            found.append((row, one.species, people))
    return found
