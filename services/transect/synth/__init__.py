"""Sample surveys and training sets with known truth: every animal's place and species is exact."""

from .dataset import make_dataset
from .domains import Domain
from .species import SPECIES, Species

__all__ = ["SPECIES", "Domain", "Species", "make_dataset"]
