from dataclasses import replace

from observation_builders import species_row
from transect.census.applicability.state import UNKNOWN_ERRORS
from transect.census.issues import Issue
from transect.census.report.formatting import (
    doubt_sentences,
    issue_counts,
    share_limits,
    summary_sentence,
    with_error,
)

ROW = species_row("buffalo")


def test_errors_and_limits_of_shares() -> None:
    assert [with_error(*pair) for pair in ((None, None), (0.95, 0.012), (1.0, 0.0))] == ["–", "0.950 ± 0.012", "1.000"]
    assert share_limits((0.9214, 1.0)) == "0.921 – 1.000"


def test_the_summary_says_number_and_limits() -> None:
    assert summary_sentence(ROW) == (
        "An estimated 470 buffalo",
        "95% limits 129 to 811; 47 animals were counted in the photos.",
    )
    one = replace(ROW, unique=1, ci95=None)
    assert summary_sentence(one) == (
        "An estimated 470 buffalo",
        "without limits (see the remarks); 1 animal was counted in the photos.",
    )


def test_the_summary_does_not_estimate_what_cannot_be() -> None:
    assert summary_sentence(replace(ROW, estimate=None, se=None, ci95=None)) == (
        "47 buffalo on 18.0 km²",
        "unique animals on the photographed ground; no estimate.",
    )
    none = replace(ROW, unique=0, estimate=0.0, ci95=None)
    assert summary_sentence(none) == ("No buffalo was seen", "that gives no limits.")
    apart = replace(none, seen_unplaced=3)
    assert summary_sentence(apart)[0] == "No buffalo was seen (3 in photos without a position)"


def test_what_stands_beside_a_number_that_may_be_wrong() -> None:
    assert doubt_sentences(replace(ROW, detector="validated"), ()) == ()
    assert doubt_sentences(replace(ROW, detector="not known"), ("Nothing was stored.",)) == (
        "Whether the detector's errors are the same here as in its validation is not known. Nothing was stored.",
    )
    doubted = replace(
        ROW,
        detector="not validated here",
        doubtful=52.34,
        doubtful_estimate=523.0,
        doubtful_ci95=(140.0, 1200.0),
    )
    first, errors, figure = doubt_sentences(doubted, ("It is dusk.", "All are small."))
    assert first == (
        "The detector is not validated here, so the count is not corrected for its errors. It is dusk. All are small."
    )
    assert errors == UNKNOWN_ERRORS
    assert figure == (
        "With the errors of the validation images it would be 523, limits 140 – 1\u202f200: not to be relied on."
    )
    assert "of sampling" not in summary_sentence(ROW)[1]
    assert summary_sentence(doubted)[1].startswith("95% sampling limits, which leave out the detector's errors, 129")
    without_area = replace(doubted, doubtful_estimate=None, doubtful_ci95=None)
    assert doubt_sentences(without_area, ())[2].startswith("With the errors of the validation images it would be 52.3:")
    # There was nothing to correct with.
    assert len(doubt_sentences(replace(without_area, doubtful=None), ())) == 2


def test_every_kind_of_failure_is_counted_and_none_is_lost() -> None:
    issues = [Issue("a", "suspect", ""), Issue("b", "unreadable", ""), Issue("c", "new", "")]
    found = issue_counts([*issues, issues[0]])
    assert [(kind, number) for kind, number, _ in found] == [("unreadable", 1), ("suspect", 2), ("new", 1)]
    assert all(meaning for _, _, meaning in found)
    assert issue_counts([]) == []
