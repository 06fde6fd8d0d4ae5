"""Sample surveys and training sets with known truth: every animal's place and species is exact."""

from .dataset import make_dataset
from .domains import Domain
from .flight import PositionNoise
from .species import SPECIES, Species
from .survey import SurveyTruth, make_survey

__all__ = ["SPECIES", "Domain", "PositionNoise", "Species", "SurveyTruth", "make_dataset", "make_survey"]
