"""Synthetic surveys and training sets with ground truth: every animal's position and species is exact."""

from transect.synth.animals.species import SPECIES, Species
from transect.synth.camera.flight import PositionNoise
from transect.synth.dataset import make_dataset
from transect.synth.domains import Domain
from transect.synth.plan import SurveyDesign, SurveyPlan, plan_survey
from transect.synth.sightings import PerfectSightings, perfect_sightings
from transect.synth.survey import SurveyTruth, make_survey, photograph_survey

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
