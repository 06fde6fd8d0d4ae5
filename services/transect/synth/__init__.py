"""Sample surveys and training sets with known truth: every animal's place and species is exact."""

from .dataset import make_dataset
from .domains import Domain
from .flight import PositionNoise
from .plan import SurveyDesign, SurveyPlan, plan_survey
from .sightings import PerfectSightings, perfect_sightings
from .species import SPECIES, Species
from .survey import SurveyTruth, make_survey, photograph_survey

__all__ = [
    "SPECIES",
    "Domain",
    "PerfectSightings",
    "PositionNoise",
    "Species",
    "SurveyDesign",
    "SurveyPlan",
    "SurveyTruth",
    "make_dataset",
    "make_survey",
    "perfect_sightings",
    "photograph_survey",
    "plan_survey",
]
