"""Text formatting of the report: errors, limits of shares, and sentences. Pure."""

from collections.abc import Sequence

from transect.census.applicability.state import UNKNOWN_ERRORS
from transect.census.counting.tally import SpeciesRow
from transect.census.issues import Issue
from transect.pages.numbers import DASH, count_text, figures, limits_text, number_text

_KINDS = {
    "unreadable": "could not be read or searched; not counted",
    "unplaced": "searched, but without a usable position: counted apart, in no estimate",
    "duplicate": "the same photo under a second name; counted once",
    "suspect": "counted, although time or place contradicts that of others",
    "remark": "counted; what was decided where its own metadata contradict themselves or lack something",
    "note": "how the survey's other files were read",
    "transect": "transects that are no sample of any stratum",
    "unused": "rows of flights.csv without a photo",
}


def with_error(value: float | None, error: float | None) -> str:
    """A share with its standard error, to three decimals."""
    if value is None:
        return DASH
    return f"{value:.3f}" + (f" ± {error:.3f}" if error else "")


def share_limits(limits: tuple[float, float]) -> str:
    """95% limits of a share, or of a factor, as `0.921 – 0.998`."""
    return f"{limits[0]:.3f} – {limits[1]:.3f}"


def cv_of(value: float | None, error: float | None) -> float | None:
    """The coefficient of variation; None where there is none."""
    return error / value if value and error is not None else None


def summary_sentence(row: SpeciesRow) -> tuple[str, str]:
    """The summary of a species: the number in words, and its basis."""
    seen = f"{count_text(row.unique)} {'animal was' if row.unique == 1 else 'animals were'} counted in the photos"
    if row.unique == 0:
        unplaced = f" ({count_text(row.seen_unplaced)} in photos without a position)" if row.seen_unplaced else ""
        return f"No {row.species} was seen{unplaced}", "that gives no limits."
    if row.estimate is None:
        return f"{count_text(row.unique)} {row.species} on {figures(row.area_km2)} km²", f"{_plain(row)} no estimate."
    head = f"An estimated {count_text(row.estimate)} {row.species}"
    if row.ci95 is None:
        return head, f"without limits (see the remarks); {seen}."
    what = "95% sampling limits, which leave out the detector's errors," if row.doubtful is not None else "95% limits"
    return head, f"{what} {count_text(row.ci95[0])} to {count_text(row.ci95[1])}; {seen}."


def doubt_sentences(row: SpeciesRow, reasons: Sequence[str]) -> tuple[str, ...]:
    """The caveats of a number where the model's validation does not apply to the survey."""
    if row.detector == "validated":
        return ()
    if row.detector == "not known":
        return (
            f"Whether the detector's errors are the same here as in its validation is not known. {' '.join(reasons)}",
        )
    sentences = [
        f"The detector is not validated here, so the count is not corrected for its errors. {' '.join(reasons)}"
    ]
    sentences.append(UNKNOWN_ERRORS)
    if row.doubtful_estimate is not None:
        limits = "" if row.doubtful_ci95 is None else f", limits {limits_text(row.doubtful_ci95)}"
        sentences.append(
            f"With the errors of the validation images it would be {count_text(row.doubtful_estimate)}{limits}: not to "
            "be relied on."
        )
    elif row.doubtful is not None:
        sentences.append(
            f"With the errors of the validation images it would be {number_text(row.doubtful)}: not to be relied on."
        )
    return tuple(sentences)


def _plain(row: SpeciesRow) -> str:
    return "unique animals on the photographed ground;" if row.unique > 1 else "unique animal photographed;"


def issue_counts(issues: Sequence[Issue]) -> list[tuple[str, int, str]]:
    """The issues by kind: (kind, number, meaning), in order of severity."""
    counts = {kind: sum(one.kind == kind for one in issues) for kind in dict.fromkeys(one.kind for one in issues)}
    order = [*(kind for kind in _KINDS if kind in counts), *(kind for kind in counts if kind not in _KINDS)]
    return [(kind, counts[kind], _KINDS.get(kind, "see the reasons below")) for kind in order]
