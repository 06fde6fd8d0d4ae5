"""A survey whose photos, or all of whose files, lie in an object store."""

import hashlib
import re
from pathlib import Path, PurePosixPath

from transect.census.inputs.survey import StoredImages, Survey, SurveySpec, load_survey
from transect.config_files import read_yaml_mapping
from transect.config_models import check
from transect.errors import SurveyError
from transect.files import private_files
from transect.settings import Settings
from transect.stores import Store, is_address, open_store

_OWN_FILES = ("survey.yaml", "flights.csv")


def open_survey(place: str | Path, settings: Settings, *, images: str = "") -> Survey:
    """The survey in a folder or at an address such as s3://BUCKET/FOLDER; `images` is where its photos lie instead.

    survey.yaml, flights.csv and the DEM of a survey in a store are copied below TRANSECT_HOME; photos stay where they
    are. Raises SurveyError for a survey that cannot be used, InputError for an address that cannot, StoreError where a
    store does not answer.
    """
    remote = isinstance(place, str) and is_address(place)
    if not remote and not images:
        return load_survey(Path(place), settings.dem_path)
    if not remote:
        return load_survey(Path(place), settings.dem_path, _listed(open_store(images, settings)))
    address = str(place).rstrip("/")
    folder = settings.home / "cache" / "surveys" / _folder_name(address)
    with private_files():
        folder.mkdir(parents=True, exist_ok=True)
        _copy_own_files(open_store(address, settings), address, folder)
    below = images or f"{address}/images"
    return load_survey(folder, settings.dem_path, _listed(open_store(below, settings)))


def _folder_name(address: str) -> str:
    """A readable name, and as a folder's name the default name of the survey; addresses never share one."""
    digest = hashlib.sha256(address.encode()).hexdigest()[:12]
    last = re.sub(r"[^A-Za-z0-9._-]", "-", address.rpartition("/")[2]) or "survey"
    return f"{digest}/{last}"


def _copy_own_files(store: Store, address: str, folder: Path) -> None:
    for name in _OWN_FILES:
        _copy(store, name, folder)
    if not (folder / "survey.yaml").is_file():
        raise SurveyError(f"{address}/survey.yaml is missing: a survey holds survey.yaml and images/.")
    dem = _named_dem(folder / "survey.yaml")
    if dem:
        _copy(store, dem, folder)


def _copy(store: Store, name: str, folder: Path) -> None:
    """Copy a file, or remove an earlier copy of one that is gone."""
    target = folder / name
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.part")
        store.fetch(name, partial)
        partial.replace(target)
    except FileNotFoundError:
        target.unlink(missing_ok=True)
    except PermissionError as error:
        raise SurveyError(
            f"{store.address}/{name} cannot be read: {error.strerror}; check the keys and what they may do."
        ) from error


def _named_dem(described: Path) -> str:
    """The relative path of the DEM that survey.yaml names, if it could lie in the survey; checked for good later."""
    spec = check(SurveySpec, read_yaml_mapping(described, SurveyError), SurveyError, "survey.yaml", {"name": "survey"})
    named = spec.height.dem or ""
    path = PurePosixPath(named)
    return "" if path.is_absolute() or ".." in path.parts else named


def _listed(store: Store) -> StoredImages:
    """The files of a store. Raises SurveyError where it lists them and does not give them."""
    try:
        files = {one.name: one for one in store.files()}
        first = min(files, default="")
        if first:
            store.read_start(first, 1)
    except FileNotFoundError as error:
        raise SurveyError(
            f"{store.address} cannot be listed; behind https:// a file files.txt there names the photos, one a line."
        ) from error
    except PermissionError as error:
        where = str(error.filename or store.address)
        raise SurveyError(
            f"{where} cannot be read: {error.strerror}; the photos' keys must list and read (AWS_ACCESS_KEY_ID and "
            "others, docs/environment.md)."
        ) from error
    return StoredImages(store, files)
