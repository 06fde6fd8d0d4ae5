"""Run a census, from a survey folder to a result folder, step by step."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from transect.census.counting.count import Census, Model, count_survey
from transect.census.ground.readings.kept import KeptReadings
from transect.census.inputs.config import CensusConfig
from transect.census.inputs.species import reported_species, species_corrections
from transect.census.inputs.survey import Survey
from transect.census.manifest import census_manifest, created_at, input_digests, run_name, survey_digest
from transect.census.outputs.files import write_outputs
from transect.census.outputs.result_folder import explain_write_errors, lock_result_folder
from transect.census.parts.agreement import Agreement, agree
from transect.census.parts.found import FoundParts
from transect.census.plan import Plan, plan_census
from transect.census.report.page import ReportInput, write_report
from transect.census.result import CensusResult
from transect.census.search import CensusSearch, require_agreement
from transect.census.sightings.detect import Searcher, decoding_workers, kept_detections, search_frames, search_key
from transect.census.sightings.scales import TargetGsd, resampling, target_gsd, with_scales
from transect.census.sightings.survey_detections import SurveyDetections
from transect.engine import DetectOptions, Detector
from transect.errors import SurveyError
from transect.files import atomic_write_json
from transect.settings import Settings
from transect.stores import FolderStore, Store
from transect.wording import count_of

logger = logging.getLogger(__name__)


def run_census(
    survey: Survey,
    *,
    out: Path,
    detector: Detector,
    config: CensusConfig,
    settings: Settings,
    record: Callable[[CensusResult], None] | None = None,
    parts: Store | None = None,
) -> CensusResult:
    """Count a survey, as open_survey read it, and write the results to `out`/RUN.

    RUN is a hash of the photos, survey.yaml, flights.csv, the DEM, the model package and the options, so that the same
    command resumes in the same folder; what was read and found in the photos is kept in `parts`, by default in
    `out`/work. `record` is called with the result while `out` is still locked. Raises SurveyError for a survey that
    cannot be counted or that changes meanwhile, InputError for an `out` that cannot be written or that another census
    has locked, or for `parts` of another search; a photo that cannot be used becomes an issue.
    """
    search = CensusSearch(survey, config, settings)
    agreed = search.agreement(detector)
    if parts is not None:
        agree(parts, agreed)

    def find(plan: Plan, store: Store) -> SurveyDetections:
        with FoundParts(store, search_key(agreed, search.options)) as kept:
            found = search_frames(
                plan.frames,
                detector=detector,
                options=search.options,
                parts=kept,
                workers=decoding_workers(config.workers, detector.backend),
                max_pixels=settings.max_pixels,
                review_conf=config.review_conf,
            )
            if parts is None:
                # Nobody else writes below `out`, which is locked.
                kept.merge()
        return found

    return _run(search, out, detector, agreed, find, record=record, parts=parts)


def count_parts(
    survey: Survey,
    *,
    out: Path,
    detector: Detector,
    config: CensusConfig,
    settings: Settings,
    parts: Store,
    record: Callable[[CensusResult], None] | None = None,
) -> CensusResult:
    """Count a survey from what search_shard() found on any machines, as run_census() does, without searching.

    `detector` is the model of the search, in whichever precision. Raises SurveyError where photos were not searched
    yet, and what run_census() raises.
    """
    search = CensusSearch(survey, config, settings)
    agreed = require_agreement(parts, search.agreement(detector))

    def find(plan: Plan, store: Store) -> SurveyDetections:
        with FoundParts(store, search_key(agreed, search.options)) as kept:
            found, missing = kept_detections(plan.frames, least=agreed.candidates, parts=kept)
        if missing:
            raise SurveyError(
                f"{count_of(len(missing), 'photo')} of {len(plan.frames)} of survey {survey.name} not searched yet, "
                f"the first {missing[0].name}: run transect census search for the shards that are left, or transect "
                "census run with the same --parts."
            )
        return found

    return _run(search, out, detector, agreed, find, record=record, parts=parts)


def _run(
    search: CensusSearch,
    out: Path,
    detector: Detector,
    agreed: Agreement,
    find: Callable[[Plan, Store], SurveyDetections],
    *,
    record: Callable[[CensusResult], None] | None,
    parts: Store | None,
) -> CensusResult:
    survey, config, settings = search.survey, search.config, search.settings
    inputs = input_digests(survey)
    # A model was fetched and opened since survey.yaml was read.
    _require_unchanged(survey, {**inputs, "survey.yaml": survey.sha256}, inputs)
    species = reported_species(survey, detector.manifest.names)
    corrections = species_corrections(survey, species, detector.manifest, search.options)
    target = target_gsd(config, detector.manifest)
    store = FolderStore(out / "work") if parts is None else parts
    with lock_result_folder(out):
        with explain_write_errors(out):
            with KeptReadings(store, survey.spec.bands) as kept:
                plan = plan_census(survey, config, kept)
                if parts is None:
                    kept.merge()
            plan = replace(plan, frames=with_scales(plan.frames, target))
            found = find(plan, store)
            _require_unchanged(survey, inputs, input_digests(survey))
            census = count_survey(
                plan, found, species, config, corrections=corrections, model=_model(detector, search.options)
            )
            _require_trust(census, config)
            digest = survey_digest(inputs, plan.frames, found)
            result = _write(
                census,
                out,
                digest,
                detector=detector,
                searcher=agreed,
                options=search.options,
                config=config,
                target=target,
                max_pixels=settings.max_pixels,
            )
        if record is not None:
            record(result)
    return result


def _write(
    census: Census,
    out: Path,
    digest: str,
    *,
    detector: Detector,
    searcher: Searcher,
    options: DetectOptions,
    config: CensusConfig,
    target: TargetGsd | None,
    max_pixels: int,
) -> CensusResult:
    plan, spec = census.plan, census.plan.survey.spec
    run = run_name(digest, searcher, options, config)
    folder = out / run
    manifest = census_manifest(
        census,
        run=run,
        digest=digest,
        detector=detector,
        searcher=searcher,
        options=options,
        config=config,
        resampled=resampling(plan.frames, target),
        created_at=created_at(folder),
    )
    # The report shows the whole manifest, so the manifest cannot contain the report's hash.
    manifest["files"] = write_outputs(folder, census, manifest, time_window_s=config.time_window_s)
    write_report(
        folder / "report.html",
        ReportInput(
            spec=spec,
            frames=plan.frames,
            coverage=census.coverage,
            observations=census.observations,
            animals=census.unique.animals,
            tally=census.tally,
            issues=census.issues,
            names=census.species.names,
            manifest=manifest,
            max_pixels=max_pixels,
            grid=plan.grid,
            applicability=census.applicability,
        ),
    )
    # The manifest is written last: a folder that has one is complete.
    atomic_write_json(folder / "manifest.json", manifest)
    files = tuple(sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")))
    logger.info("Census of %s written to %s.", spec.name, folder)
    return CensusResult(
        name=spec.name,
        folder=folder,
        rows=census.tally.rows,
        issues=census.issues,
        report=folder / "report.html",
        manifest=manifest,
        files=files,
    )


def _model(detector: Detector, options: DetectOptions) -> Model:
    package = detector.manifest
    return Model(detector.profile, package.training_gsd_m, *package.thresholds(options))


def _require_trust(census: Census, config: CensusConfig) -> None:
    """Raise SurveyError where the model's validation does not apply to the survey and `trust` is refuse."""
    if config.trust == "warn":
        return
    for name in census.species.names:
        state = census.applicability.state(name)
        if state != "validated":
            reasons = " ".join(census.applicability.reasons(name))
            raise SurveyError(
                f"The detector is {state} for {name}: {reasons} Nothing is written, since trust is refuse; with trust: "
                "warn the census gives the count without the detector's correction. What was found is kept."
            )


def _require_unchanged(survey: Survey, before: Mapping[str, str], now: Mapping[str, str]) -> None:
    for name in {**before, **now}:
        if before.get(name) != now.get(name):
            raise SurveyError(
                f"{name} of survey {survey.folder} changed while the census ran, so its numbers would be of neither; "
                "run the same command again: what was found in the photos is kept."
            )
