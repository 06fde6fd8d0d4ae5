"""What follows from the checks: whether the detector's errors are known on a survey's ground. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from transect.census.applicability.checks import Check, Setting, compare
from transect.census.applicability.evidence import of_survey, of_validation
from transect.census.inputs.species import ReportedSpecies
from transect.census.sightings.detect import Found
from transect.engine import STATISTICS, ValidationProfile

State = Literal["validated", "not validated here", "not known"]
STATES: tuple[State, ...] = get_args(State)

UNKNOWN_ERRORS = (
    "The detector's errors on this ground are unknown: labelled images of such ground in the training's validation "
    "split, or a review of this census by people, would make them known."
)


@dataclass(frozen=True)
class Applicability:
    """Whether the model's validation speaks for a survey; `missing` says why nothing was compared, if nothing was."""

    checks: tuple[Check, ...] = ()
    missing: str = ""

    def state(self, species: str) -> State:
        """That of one species: its own checks and those of the whole survey."""
        mine = self._of(species)
        if any(check.differs for check in mine):
            return "not validated here"
        looked = any(check.kind == "ground" and check.p is not None for check in mine)
        return "validated" if looked else "not known"

    def reasons(self, species: str) -> tuple[str, ...]:
        """Why the state is not `validated`, in sentences."""
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
    found: Sequence[Found],
    species: ReportedSpecies,
    setting: Setting,
    thresholds: tuple[float, float],
) -> Applicability:
    """Compare the photos that count, in the order of the flight, with what the model was judged on.

    `thresholds` are the score and the IoU that the survey was searched with.
    """
    if profile is None:
        return Applicability(missing="The model package does not hold what its validation images look like.")
    if profile.statistics != STATISTICS:
        return Applicability(
            missing="The model package describes its validation images in other terms than this release."
        )
    if max(abs(profile.conf - thresholds[0]), abs(profile.iou - thresholds[1])) > 1e-9:
        return Applicability(missing="The survey was searched with other thresholds than the validation images.")
    validation = of_validation(profile, species.names, species.of_class)
    survey = of_survey(found, species.names, species.of_class, setting.together)
    return Applicability(compare(validation, survey, setting))


def overall(states: Mapping[str, State]) -> State:
    """The state of a census: the weakest of its species'."""
    for state in ("not validated here", "not known"):
        if state in states.values():
            return state
    return "validated"
