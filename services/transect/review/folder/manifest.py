"""review.json: on what a review stands, and the bins and groups of its population."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from transect.census.estimates.estimate import StripMethod
from transect.errors import InputError
from transect.review.population.strata import ExpectedGroup, ScoreBin

MANIFEST = "review.json"
SCHEMA = 1


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ReviewedSurvey(_Section):
    """The survey; `folder` is where its photos were when the review began, None where nobody said."""

    name: str
    digest: str
    sampling: Literal["strip", "total"]
    folder: str | None


class ReviewedCensus(_Section):
    """The run of the census, the method of its limits, and the SHA-256 of its files that the review froze."""

    run: str
    method: StripMethod
    files: dict[str, str]


class ReviewedModel(_Section):
    """The model version that found the boxes, as the manifest of the census names it, and the thresholds."""

    name: str
    version: str
    run_id: str
    package_sha256: str
    conf: float
    iou: float
    review_conf: float | None


class CountedSpecies(_Section):
    """What the census says of a species: boxes, one look at each place, unique animals, and the estimate."""

    name: str
    seen: int
    single_look: float
    unique: int
    corrected: float | None
    estimate: float | None
    ci95: tuple[float, float] | None
    detector: str
    note: str


class Bin(_Section):
    """See ScoreBin; `boxes` is how many there are."""

    species: str
    low: float
    high: float
    counted: bool
    boxes: int


class Group(_Section):
    """See ExpectedGroup; `high` None has no upper end, `photos` is how many there are."""

    low: float
    high: float | None
    photos: int


class ReviewManifest(_Section):
    """A review. `species` are the reported ones, `others` those that reviewers may name beside them.

    `left_out` counts boxes of the census that no total contains, by reason.
    """

    schema_version: int = SCHEMA
    id: str
    name: str
    seed: int
    created_at: str
    created_by: str
    transect_version: str
    survey: ReviewedSurvey
    census: ReviewedCensus
    model: ReviewedModel
    species: tuple[str, ...]
    others: tuple[str, ...]
    counted: tuple[CountedSpecies, ...]
    bins: tuple[Bin, ...]
    groups: tuple[Group, ...]
    left_out: dict[str, int]

    @property
    def named(self) -> tuple[str, ...]:
        """All species that a reviewer may name."""
        return (*self.species, *self.others)

    @property
    def score_bins(self) -> tuple[ScoreBin, ...]:
        """The bins of the population."""
        return tuple(ScoreBin(one.species, one.low, one.high, one.counted) for one in self.bins)

    @property
    def expected_groups(self) -> tuple[ExpectedGroup, ...]:
        """The groups of the population."""
        return tuple(ExpectedGroup(one.low, float("inf") if one.high is None else one.high) for one in self.groups)


def read_manifest(folder: Path) -> ReviewManifest:
    """The manifest of a review's folder. Raises InputError where there is none that this version reads."""
    path = folder / MANIFEST
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(
            f"{folder} is no review: it has no {MANIFEST}; name the folder RESULT/reviews/NAME that `transect review "
            "start` made."
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}.") from error
    try:
        manifest = ReviewManifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError(
            f"{path} is not what `transect review start` writes ({place}: {first['msg']}); put back the file as it was."
        ) from error
    if manifest.schema_version != SCHEMA:
        raise InputError(
            f"{path} has the schema {manifest.schema_version}, and this version of Transect reads {SCHEMA}; use the "
            "version that started the review."
        )
    return manifest
