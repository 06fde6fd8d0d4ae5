"""The state of applicability from the checks: whether the detector's errors are known on a survey's ground. Pure."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from transect.arrays import BoolArray
from transect.census.applicability.checks import Check, SurveyContext, check_applicability
from transect.census.applicability.evidence import of_survey, of_validation
from transect.census.inputs.species import ReportedSpecies
from transect.census.sightings.survey_detections import SurveyDetections
from transect.engine import STATISTICS, ValidationProfile

State = Literal["validated", "not validated here", "not known"]
STATES: tuple[State, ...] = get_args(State)

UNKNOWN_ERRORS = (
    "The detector's errors on this ground are unknown: labelled images of such ground in the training's validation "
    "split, or a review of this census by people, would make them known."
)


@dataclass(frozen=True)
class Applicability:
    """Whether the model's validation applies to a survey; `missing` is the reason where there are no checks."""

    checks: tuple[Check, ...] = ()
    missing: str = ""

    def state(self, species: str) -> State:
        """The state of one species, by its own checks and those of the whole survey."""
        mine = self._of(species)
        if any(check.differs for check in mine):
            return "not validated here"
        measured = any(check.kind == "ground" and check.p is not None for check in mine)
        return "validated" if measured else "not known"

    def reasons(self, species: str) -> tuple[str, ...]:
        """The reasons why the state is not `validated`, in sentences."""
        if self.missing:
            return (self.missing,)
        state = self.state(species)
        if state == "not validated here":
            return tuple(check.sentence for check in self._of(species) if check.differs)
        if state == "not known":
            return tuple(check.sentence for check in self._of(species) if check.kind == "ground")
        return ()

    def record(self, species: str) -> dict[str, Any]:
        """As JSON: the state, its reasons, and every check that concerns the species."""
        return {
            "detector": self.state(species),
            "reasons": list(self.reasons(species)),
            "checks": [asdict(check) for check in self._of(species)],
        }

    def _of(self, species: str) -> list[Check]:
        return [check for check in self.checks if check.species in ("", species)]


def assess(
    profile: ValidationProfile | None,
    found: SurveyDetections,
    usable: BoolArray,
    species: ReportedSpecies,
    context: SurveyContext,
    *,
    thresholds: tuple[float, float],
) -> Applicability:
    """Compare the photos that count, in the order of the flight, with the model's validation images.

    `usable` (n,) is whether a photo counts. `thresholds` are the score and the IoU that the survey was searched with.
    """
    if profile is None:
        return Applicability(missing="The model package has no appearance statistics of its validation images.")
    if profile.statistics != STATISTICS:
        return Applicability(
            missing="The model package has other appearance statistics of its validation images than this release."
        )
    if max(abs(profile.conf - thresholds[0]), abs(profile.iou - thresholds[1])) > 1e-9:
        return Applicability(missing="The survey was searched with other thresholds than the validation images.")
    validation = of_validation(profile, species.names, species.of_class)
    survey = of_survey(found, usable, species.names, species.of_class, context.photos_per_group)
    return Applicability(check_applicability(validation, survey, context))


def overall(states: Mapping[str, State]) -> State:
    """The state of a census: the weakest of its species'."""
    for state in ("not validated here", "not known"):
        if state in states.values():
            return state
    return "validated"
