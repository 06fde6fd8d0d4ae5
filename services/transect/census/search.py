"""The search of a census by itself: what decides its boxes, and one shard of it on whichever machine."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from transect.census.ground.placement.frames import Frame
from transect.census.ground.placement.positions import place_frames
from transect.census.ground.readings.kept import KeptReadings
from transect.census.ground.readings.survey import read_photos, shown_alike
from transect.census.inputs.config import CensusConfig
from transect.census.inputs.species import reported_species
from transect.census.inputs.survey import Survey
from transect.census.outputs.result_folder import explain_write_errors
from transect.census.parts.agreement import Agreement, agree, agree_on_shards, read_agreement, require_same
from transect.census.parts.found import FoundParts
from transect.census.parts.shards import Shard
from transect.census.sightings.candidates import least_candidate
from transect.census.sightings.detect import decoding_workers, search_content, search_frames, search_key
from transect.census.sightings.scales import target_gsd, with_scales
from transect.engine import DetectOptions, Detector
from transect.errors import SurveyError
from transect.files import private_files
from transect.settings import Settings
from transect.stores import Store
from transect.stores.lease import lease


@dataclass(frozen=True)
class CensusSearch:
    """A survey and everything that is configured for its search."""

    survey: Survey
    config: CensusConfig
    settings: Settings

    @property
    def options(self) -> DetectOptions:
        """The detector's options; the scale is each photo's own."""
        return self.config.detect_options(self.settings)

    def agreement(self, detector: Detector) -> Agreement:
        """What this machine would find with a detector."""
        ref = detector.ref
        return Agreement(
            survey=self.survey.name,
            model=f"models:/{ref.name}/{ref.version}" if ref.version else "",
            search=search_content(detector, self.options),
            candidates=least_candidate(detector, self.options, self.config.review_conf),
            gsd=self.config.gsd,
        )


@dataclass(frozen=True)
class SearchedShard:
    """How many photos a shard has, how many of them were searched now and earlier, and the reasons of the others."""

    photos: int
    searched: int
    reused: int
    failures: tuple[str, ...]


def require_agreement(parts: Store, mine: Agreement) -> Agreement:
    """The agreement of a store's search, which another machine may have made with another processor.

    Raises InputError where the survey, the model or the options are others, and SurveyError where nothing was searched.
    """
    theirs = read_agreement(parts)
    if theirs is None:
        raise SurveyError(f"{parts.address} holds no search yet; run transect census search with the same --parts.")
    computed = {name: theirs.search[name] for name in ("backend", "precision", "instructions", "library")}
    require_same(parts, theirs, replace(mine, search={**mine.search, **computed}))
    return theirs


def search_shard(
    survey: Survey, shard: Shard, *, parts: Store, detector: Detector, config: CensusConfig, settings: Settings
) -> SearchedShard:
    """Search the photos of one shard of a survey, and keep what is found in `parts`, for count_parts().

    Any number of shards may run at a time, on any machines; a shard that was stopped goes on. Raises SurveyError for a
    survey that cannot be counted, InputError where another search or another cut is in `parts`, where somebody searches
    this shard now, or where `parts` cannot be written.
    """
    search = CensusSearch(survey, config, settings)
    reported_species(survey, detector.manifest.names)
    mine = search.agreement(detector)
    held = lease(parts, f"leases/shard-{shard.number}-of-{shard.count}.json", f"Shard {shard} of survey {survey.name}")
    with private_files(), explain_write_errors(parts.address):
        agree(parts, mine)
        agree_on_shards(parts, shard.count)
        with held:
            with KeptReadings(parts, survey.spec.bands) as kept:
                frames = shard_frames(search, shard, detector, kept)
            with FoundParts(parts, search_key(mine, search.options)) as found:
                results = search_frames(
                    frames,
                    detector=detector,
                    options=search.options,
                    parts=found,
                    workers=decoding_workers(config.workers, detector.backend),
                    max_pixels=settings.max_pixels,
                    review_conf=config.review_conf,
                )
    failures = tuple(results.failure.values())
    reused = int(results.reused.sum())
    return SearchedShard(len(results), len(results) - reused - len(failures), reused, failures)


def shard_frames(search: CensusSearch, shard: Shard, detector: Detector, kept: KeptReadings) -> Sequence[Frame]:
    """The photos of a shard as the whole census would search them.

    Of the other photos nothing is read, unless the scale or the depth of samples follows from all of them.
    """
    survey, config = search.survey, search.config
    target = target_gsd(config, detector.manifest)
    if target is not None:
        frames = with_scales(place_frames(survey, config.max_off_nadir_deg, kept).frames, target)
        return [frame for frame in frames if shard.has(frame.name)]
    photos = {survey.name_of(path): survey.photo(path) for path in survey.images}
    mine = {name: photo for name, photo in photos.items() if shard.has(name)}
    bands = survey.spec.bands
    readings = read_photos(mine, bands, kept, remote=survey.is_remote)
    known = readings
    if any(one.depth is not None for one in readings.values()):
        kept.refresh()
        known = read_photos(photos, bands, kept, remote=survey.is_remote)
    rendering = shown_alike(bands, known.values())
    return [
        Frame(
            name=name,
            photo=photo,
            transect=None,
            taken_at=None,
            width=readings[name].metadata.width or 0,
            height=readings[name].metadata.height or 0,
            placement=None,
            problem=readings[name].failure,
            unreadable=bool(readings[name].failure),
            stamp=readings[name].stamp,
            rendering=rendering(readings[name]),
        )
        for name, photo in mine.items()
    ]
