"""The public functions: a model, a census, an estimate, the registry, from Python. Rooms are imported when called."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from transect.errors import InputError, RegistryError
from transect.settings import Settings, load_settings

if TYPE_CHECKING:
    from transect.census import CensusConfig, CensusResult, SearchedShard
    from transect.census.counting.tally import StratumEstimate
    from transect.engine import Detector
    from transect.registry import Registry
    from transect.stores import Store

CensusLog = Literal["full", "summary", "none"]
"""What MLflow gets of a census: all files, those without positions, or nothing."""
LimitsMethod = Literal["bootstrap", "jolly2", "lognormal", "percentile", "total"]
"""How the 95% limits of an estimate are made (docs/census-estimates.md)."""


def load_registry(settings: Settings | None = None) -> "Registry":
    """Open the registry that the environment, or `settings`, names: an MLflow server or the embedded store.

    Raises SettingsError for a bad variable, RegistryError where MLflow cannot be reached or used.
    """
    from transect.registry import connect

    return connect(settings or load_settings())


def open_model(reference: str = "", settings: Settings | None = None) -> "Detector":
    """Open a registered model version: find it in MLflow, fetch it, verify every file, and only then load it.

    `reference` is `models:/detector@production`, `models:/detector/3`, or an alias or a version of
    TRANSECT_MODEL_NAME; empty means the alias TRANSECT_MODEL_ALIAS of TRANSECT_MODEL_NAME. The environment, or
    `settings`, names MLflow, backend and precision. Nothing that is fetched is run as a program: MLmodel, which tells
    MLflow's own client what code to import, is compared with its hash and not read. The caller closes the detector
    (`with` does).

    Raises SettingsError; RegistryError where the version cannot be fetched; PackageError where its files are
    not those that were registered; InputError for a backend or a precision that this machine cannot run.
    """
    settings = settings or load_settings()
    registry = load_registry(settings)
    return registry.open(registry.resolve(reference or f"models:/{settings.model_name}@{settings.model_alias}"))


def open_detector(model: str | Path = "", settings: Settings | None = None) -> "Detector":
    """Open a model package folder, or else a registered version as `open_model` does.

    Raises what `open_model` raises; PackageError for a folder that is no valid package.
    """
    settings = settings or load_settings()
    if model and Path(model).is_dir():
        from transect.engine import Detector

        return Detector.from_settings(Path(model), settings)
    reference = str(model)
    try:
        return open_model(reference, settings)
    except RegistryError as error:
        if not reference or reference.startswith("models:/"):
            raise
        # A mistyped folder reads like an alias.
        raise type(error)(f"There is no folder {reference} here, so it was read as a model version. {error}") from error


def run_census(
    survey: str | Path,
    *,
    out: str | Path | None = None,
    model: str | Path = "",
    config: "CensusConfig | None" = None,
    log: CensusLog = "none",
    record: "Callable[[CensusResult], None] | None" = None,
    settings: Settings | None = None,
    images: str = "",
    parts: str = "",
) -> "CensusResult":
    """Count a survey and write the results to `out`/RUN; a census that was stopped resumes there.

    `survey` is a folder, or an address such as s3://BUCKET/FOLDER; `images` is where its photos lie instead of below
    its own images/. `out` is results/NAME by default. `model` is a package folder or a registered version; by default
    the one that survey.yaml names, else the production version. `log` says what MLflow gets: by default nothing; a
    `summary` has no positions. `record` is called with the result instead, before another census may use `out`.
    `parts` is the folder or address where what is found in each photo is kept, by default `out`/work.

    Raises SurveyError for a survey that cannot be counted, InputError for an unknown `log`, for a folder that cannot be
    written or that another census uses, StoreError where a store does not answer, and what `open_detector` raises. A
    photo that cannot be used is listed in the result.
    """
    from transect.census import CensusConfig, open_survey
    from transect.census import run_census as count
    from transect.stores import open_store

    _require_choice("log", log, CensusLog)
    settings = settings or load_settings()
    definition = open_survey(survey, settings, images=images)
    store = open_store(parts, settings) if parts else None

    with open_searcher(model or definition.model or "", settings, store) as detector:
        return count(
            definition,
            out=Path(out) if out is not None else Path("results") / definition.name,
            detector=detector,
            config=config or CensusConfig(),
            settings=settings,
            record=record or _logged(log, settings),
            parts=store,
        )


def search_shard(
    survey: str | Path,
    shard: str,
    *,
    parts: str,
    model: str | Path = "",
    config: "CensusConfig | None" = None,
    settings: Settings | None = None,
    images: str = "",
) -> "SearchedShard":
    """Search one shard of a survey, such as `3/7`, and keep what is found in `parts` for count_parts().

    Any number of machines may search shards of one survey into one folder or address. `survey`, `model` and `images`
    are those of run_census(). Without a `model`, and with TRANSECT_BACKEND and TRANSECT_PRECISION at auto, those are
    taken with which the search was begun. Raises InputError where this machine would find other boxes than the others,
    and what run_census() raises.
    """
    from transect.census import CensusConfig, Shard, open_survey
    from transect.census import search_shard as search
    from transect.stores import open_store

    settings = settings or load_settings()
    wanted = Shard.parse(shard)
    definition, store = open_survey(survey, settings, images=images), open_store(parts, settings)
    with open_searcher(model or definition.model or "", settings, store) as detector:
        return search(
            definition, wanted, parts=store, detector=detector, config=config or CensusConfig(), settings=settings
        )


def count_parts(
    survey: str | Path,
    *,
    parts: str,
    out: str | Path | None = None,
    model: str | Path = "",
    config: "CensusConfig | None" = None,
    log: CensusLog = "none",
    record: "Callable[[CensusResult], None] | None" = None,
    settings: Settings | None = None,
    images: str = "",
) -> "CensusResult":
    """Count a survey whose shards search_shard() has searched; the files are those of run_census(), byte for byte.

    Raises SurveyError where photos are not searched yet, and what run_census() raises.
    """
    from transect.census import CensusConfig, open_survey
    from transect.census import count_parts as count
    from transect.stores import open_store

    _require_choice("log", log, CensusLog)
    settings = settings or load_settings()
    definition, store = open_survey(survey, settings, images=images), open_store(parts, settings)
    reference = str(model or definition.model or "") or _agreed_model(store)
    with open_detector(reference, settings) as detector:
        return count(
            definition,
            out=Path(out) if out is not None else Path("results") / definition.name,
            detector=detector,
            config=config or CensusConfig(),
            settings=settings,
            parts=store,
            record=record or _logged(log, settings),
        )


def open_searcher(model: str | Path, settings: Settings, parts: "Store | None") -> "Detector":
    """Open a model as the search in `parts` was begun with it, where it was and nothing else is asked for.

    Raises what `open_detector` raises, and InputError where this machine lacks the backend or the precision.
    """
    if parts is None:
        return open_detector(model, settings)
    from transect.census import read_agreement

    agreed = read_agreement(parts)
    if agreed is None:
        return open_detector(model, settings)
    chosen = {}
    if settings.backend == "auto":
        chosen["backend"] = agreed.backend
    if settings.precision == "auto":
        chosen["precision"] = agreed.precision
    return open_detector(model or agreed.model, settings.model_copy(update=chosen))


def _agreed_model(parts: "Store") -> str:
    from transect.census import read_agreement

    agreed = read_agreement(parts)
    return "" if agreed is None else agreed.model


def _logged(log: CensusLog, settings: Settings) -> "Callable[[CensusResult], None]":
    def log_result(result: "CensusResult") -> None:
        if log != "none":
            from transect.tracking.census_log import log_census

            log_census(result.as_run(log), settings)

    return log_result


def estimate(
    transects: str | Path,
    strata: str | Path,
    *,
    species: str | Iterable[str] = (),
    method: LimitsMethod = "bootstrap",
) -> "list[StratumEstimate]":
    """Estimate numbers of animals, with 95% limits, from counts on transects, however they were counted.

    `transects` is a CSV file with the columns stratum, transect, species, area_km2 and count; `strata` one with
    stratum, area_km2 and, optionally, transects_possible. Counts are animals, areas km2. `species` limits the answer
    to some. `method` says how the limits are made (docs/census-estimates.md); `total` is for a survey that was no
    sample.

    Raises InputError for a table that cannot be read, a species that it does not have, or an unknown `method`.
    """
    _require_choice("method", method, LimitsMethod)
    from transect.census.counting.tally import estimate_species
    from transect.census.transect_table import read_count_table

    samples = read_count_table(Path(transects), Path(strata)).samples
    # A text is an iterable of letters, and never meant as one.
    wanted = [species] if isinstance(species, str) else list(species) or list(samples)
    if unknown := [name for name in wanted if name not in samples]:
        raise InputError(f"{transects} has no {', '.join(unknown)}; it has {', '.join(samples)}.")
    return [one for name in wanted for one in estimate_species(name, samples[name], method)]


def _require_choice(name: str, value: str, choices: Any) -> None:
    """Raise InputError for a value that is none of a Literal's: a script has no type checker before it runs."""
    if value not in get_args(choices):
        raise InputError(f"{name}={value!r} is not usable: give one of {', '.join(get_args(choices))}.")
