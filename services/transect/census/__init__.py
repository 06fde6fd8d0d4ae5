"""The census: from a survey folder to counts and population estimates with 95% limits."""

from transect.census.counting.tally import SpeciesRow
from transect.census.estimates.estimate import Estimate, add_strata, jolly2, total_coverage
from transect.census.inputs.config import CensusConfig, load_config
from transect.census.inputs.stored_survey import open_survey
from transect.census.inputs.survey import Survey, load_survey
from transect.census.issues import Issue
from transect.census.parts.agreement import read_agreement
from transect.census.parts.shards import Shard
from transect.census.plan import Plan, plan_census
from transect.census.result import CensusResult
from transect.census.run import count_parts, run_census
from transect.census.search import SearchedShard, search_shard

__all__ = [
    "CensusConfig",
    "CensusResult",
    "Estimate",
    "Issue",
    "Plan",
    "SearchedShard",
    "Shard",
    "SpeciesRow",
    "Survey",
    "add_strata",
    "count_parts",
    "jolly2",
    "load_config",
    "load_survey",
    "open_survey",
    "plan_census",
    "read_agreement",
    "run_census",
    "search_shard",
    "total_coverage",
]
