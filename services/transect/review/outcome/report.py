"""The report of a review: one HTML file without external resources, for reading offline and for print."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from transect.census.report.charts import axis, colour
from transect.census.report.survey_map import mark
from transect.files import atomic_write
from transect.pages.numbers import FILTERS
from transect.pages.svg import Markup
from transect.pages.templates import load_template
from transect.review.outcome.record import NOT_CHECKED
from transect.review.outcome.report_charts import draw_shares
from transect.review.outcome.report_pictures import MOST_PICTURES, cut_out, missed, rejected
from transect.review.outcome.report_scores import scores_by_species
from transect.review.outcome.report_words import range_text, share_text, summary_sentence, time_text, work_text
from transect.review.verdicts.truth import Truth

REPORT = "report.html"
# The report names so many transects; estimate.json has all.
_MOST_TRANSECTS = 400
_UNSURE = "unsure"
_FUNCTIONS: dict[str, Callable[..., Any]] = {"share": share_text, "expects": range_text}


def write_report(
    folder: Path, truth: Truth, record: Mapping[str, Any], *, survey: Path | None, max_pixels: int | None
) -> None:
    """Write report.html; without `survey`, or where a photo is gone, a picture's frame has the reason."""
    atomic_write(folder / REPORT, render_report(truth, record, survey=survey, max_pixels=max_pixels))


def render_report(truth: Truth, record: Mapping[str, Any], *, survey: Path | None, max_pixels: int | None) -> str:
    """The report as HTML text."""
    manifest = truth.items.manifest
    shown, bins = _shown(record), _bins(record["bins"], manifest.named)
    template = load_template("transect.review.outcome", "review_report.html.j2", filters=FILTERS, functions=_FUNCTIONS)
    html = template.render(
        record=record,
        manifest=manifest,
        reviewed=record["reviewed"],
        work=work_text(record),
        time=time_text(record),
        species=[_species(one, record, manifest.named) for one in shown],
        unknown=record["species"][-1]["unknown"],
        flown_ticks=_ticks([_tops([one["flown"], _machine(one, "single_look")], [one["flown_ci95"]]) for one in shown]),
        area_ticks=_ticks([_area_tops(one) for one in shown if one["strata"]]),
        bins=[one for _, mine in bins for one in mine],
        bars=[(name, _bars(name, mine, manifest.named)) for name, mine in bins],
        sums=_sums(record),
        scores=scores_by_species(truth),
        confusion=_confusion(truth, record["confusion"]),
        rejected=cut_out(truth, rejected(truth), survey, max_pixels),
        missed=cut_out(truth, missed(truth), survey, max_pixels),
        most_pictures=MOST_PICTURES,
        strata=_strata(record, manifest.named),
        several_strata=len({one["stratum"] for one in record["transects"]}) > 1,
        transects=record["transects"][:_MOST_TRANSECTS],
        more_transects=max(len(record["transects"]) - _MOST_TRANSECTS, 0),
        otherwise=[one for one in shown if one["if_unsure_are_animals"]],
    )
    return html.lstrip() + "\n"


def _shown(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The species of a record; their sum only where there are several."""
    species: list[Mapping[str, Any]] = record["species"]
    return species if len(species) > 2 else species[:1]


def _species(one: Mapping[str, Any], record: Mapping[str, Any], named: Sequence[str]) -> dict[str, Any]:
    return {**_looks(one["species"], named), "row": one, "sentence": summary_sentence(one, record)}


def _looks(species: str, named: Sequence[str]) -> dict[str, str]:
    """The name, colour and mark of a species, which are those of the census report; the sum has ink and a ring."""
    if species not in named:
        return {"name": "all species", "colour": "#56625c", "mark": mark(0)}
    number = named.index(species)
    return {"name": species, "colour": colour(number), "mark": mark(number)}


def _machine(one: Mapping[str, Any], name: str) -> float | None:
    value: float | None = one["machine"][name] if one["machine"] else None
    return value


def _tops(values: Sequence[float | None], limits: Sequence[Sequence[float] | None]) -> float:
    """The largest of numbers and limits, 0 for none."""
    return max([*(one for one in values if one is not None), *(one[1] for one in limits if one is not None)], default=0)


def _area_tops(one: Mapping[str, Any]) -> float:
    whole, machine = one["strata"][-1], one["machine"] or {}
    return _tops([whole["estimate"], machine.get("estimate")], [whole["ci95"], machine.get("ci95")])


def _ticks(tops: Sequence[float]) -> list[float]:
    """The axis of a chart from 0; empty where there is nothing to draw."""
    return axis(max(tops)) if tops and max(tops) > 0 else []


def _bins(bins: Sequence[Mapping[str, Any]], named: Sequence[str]) -> list[tuple[str, list[Mapping[str, Any]]]]:
    """The bins of each species that has boxes, the highest scores first."""
    ordered = sorted(bins, key=lambda one: (not one["counted"], -one["low"]))
    found = [(name, [one for one in ordered if one["species"] == name]) for name in named]
    return [(name, mine) for name, mine in found if mine]


def _bars(name: str, bins: Sequence[Mapping[str, Any]], named: Sequence[str]) -> Markup:
    title = f"{name}: share of the boxes that are animals, by score"
    return draw_shares(bins, colour(named.index(name)), title)


def _sums(record: Mapping[str, Any]) -> dict[str, float | None]:
    """The animals in boxes, those that no box covers, and both; None where one part is unknown."""
    parts = {name: [one["animals"] for one in record[name]] for name in ("bins", "groups")}
    sums = {name: None if None in found else sum(found) for name, found in parts.items()}
    return {**sums, "flown": record["species"][-1]["flown"]}


def _confusion(truth: Truth, confusion: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the decided boxes of each species are, counted ones and candidates apart, and the animals without a box."""
    named = truth.items.manifest.named
    said = [*named, NOT_CHECKED, *([_UNSURE] if any(one["is"] == _UNSURE for one in confusion) else [])]
    counts = Counter[tuple[bool, str, str]]()
    for one in confusion:
        counts[one["counted"], one["called"], one["is"]] += one["boxes"]
    groups = []
    for counted in (True, False):
        called = [
            name for name in named if any(one["called"] == name and one["counted"] == counted for one in confusion)
        ]
        rows = [(name, [counts[counted, name, what] for what in said]) for name in called]
        if rows:
            groups.append((counted, rows))
    added = Counter(one.species for one in truth.missed)
    return {"said": said, "groups": groups, "added": [added[name] for name in named] if added else []}


def _strata(record: Mapping[str, Any], named: Sequence[str]) -> list[tuple[dict[str, str], list[Mapping[str, Any]]]]:
    return [(_looks(one["species"], named), one["strata"]) for one in _shown(record) if one["strata"]]
