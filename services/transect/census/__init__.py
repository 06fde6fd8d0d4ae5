"""The census: from a survey folder to counts and population estimates with 95% limits."""

from transect.census.counting.tally import SpeciesRow
from transect.census.estimates.estimate import Estimate, add_strata, jolly2, total_coverage
from transect.census.inputs.config import CensusConfig, load_config
from transect.census.inputs.survey import Survey, load_survey
from transect.census.issues import Issue
from transect.census.plan import Plan, plan_census
from transect.census.result import CensusResult
from transect.census.run import run_census

__all__ = [
    "CensusConfig",
    "CensusResult",
    "Estimate",
    "Issue",
    "Plan",
    "SpeciesRow",
    "Survey",
    "add_strata",
    "jolly2",
    "load_config",
    "load_survey",
    "plan_census",
    "run_census",
    "total_coverage",
]
