"""The survey folder: survey.yaml and the photos below images/, validated."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timezone
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from transect.census.estimates.correction import SpeciesFactors
from transect.census.inputs.photos import LocalPhoto, Photo, StoredPhoto
from transect.census.lonlat import planar_polygon, polygon_area_km2
from transect.config_files import read_yaml_mapping
from transect.config_models import ConfigModel, NameKeys, check
from transect.errors import SurveyError
from transect.imagery.metadata.times import read_offset
from transect.pictures.files import Aside, PictureFiles, find_pictures
from transect.pictures.kinds import READ_NAMES
from transect.pictures.stored import sort_stored_files
from transect.stores import Store, StoredFile

# A stated area and a polygon's that differ by more contradict each other.
_AREA_TOLERANCE = 0.05


def _visible(name: str) -> str:
    if not name.strip():
        raise ValueError("a name needs more than spaces")
    return name


def _one_or_three(bands: tuple[int, ...]) -> tuple[int, ...]:
    if len(bands) not in (1, 3):
        raise ValueError("bands are three numbers, of the red, green and blue band, or one that is shown as grey")
    return bands


_Band = Annotated[int, Field(ge=1, le=1000)]
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Name = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_visible)]


def _check_place(lon: float, lat: float) -> None:
    if not (math.isfinite(lon) and math.isfinite(lat) and abs(lon) <= 180 and abs(lat) <= 84):
        raise ValueError(f"[{lon}, {lat}] is not [longitude, latitude] between 84 S and 84 N")


class CameraSpec(ConfigModel):
    """Camera parameters that take precedence over the camera table and EXIF.

    The width of the part of the sensor that the photo's long side shows, or the pixel pitch; and the focal length. All
    are physical (not 35 mm equivalent).
    """

    sensor_width_mm: Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)] | None = None
    pixel_pitch_um: Annotated[float, Field(gt=0, le=50, allow_inf_nan=False)] | None = None
    focal_mm: Annotated[float, Field(gt=0, le=2000, allow_inf_nan=False)] | None = None

    @model_validator(mode="after")
    def _has_one_pixel_size(self) -> "CameraSpec":
        if self.sensor_width_mm is not None and self.pixel_pitch_um is not None:
            raise ValueError("sensor_width_mm and pixel_pitch_um are alternatives; give one of them")
        return self


class HeightSpec(ConfigModel):
    """The source of height above ground where flights.csv does not give it.

    `dem` is a GeoTIFF of the terrain, below the survey folder or below TRANSECT_DEM_PATH. With it, `altitude` is the
    source of the camera's height: `relative` to the terrain at `take_off` (longitude, latitude; else below the first
    photo), or `gps`, brought to the DEM's vertical datum by adding `vertical_offset_m`. `dem_unit` takes precedence
    over the DEM's own unit.
    """

    source: Literal["relative_altitude", "flights", "fixed", "gps_altitude", "dem"] = "relative_altitude"
    height_agl_m: _Positive | None = None
    ground_elevation_m: Annotated[float, Field(ge=-500, le=9000, allow_inf_nan=False)] | None = None
    dem: Annotated[str, Field(min_length=1)] | None = None
    altitude: Literal["relative", "gps"] = "relative"
    take_off: tuple[float, float] | None = None
    dem_unit: Literal["m", "cm", "ft", "us-ft"] | None = None
    vertical_offset_m: Annotated[float, Field(ge=-200, le=200, allow_inf_nan=False)] = 0.0

    @model_validator(mode="after")
    def _dem_keys_are_consistent(self) -> "HeightSpec":
        if self.source == "dem" and self.dem is None:
            raise ValueError("source dem needs dem, the path of a GeoTIFF of the terrain")
        if self.source != "dem" and (self.dem or self.take_off or self.vertical_offset_m or self.dem_unit):
            raise ValueError("dem, dem_unit, take_off and vertical_offset_m need source dem")
        if self.altitude == "gps" and self.take_off is not None:
            raise ValueError("take_off is for altitude relative; a GPS altitude does not need it")
        if self.altitude == "relative" and self.vertical_offset_m:
            raise ValueError("vertical_offset_m is for altitude gps; a relative altitude needs none")
        if self.take_off is not None:
            _check_place(*self.take_off)
        return self

    @model_validator(mode="after")
    def _source_has_its_keys(self) -> "HeightSpec":
        if self.source == "fixed" and self.height_agl_m is None:
            raise ValueError("source fixed needs height_agl_m, the height above ground in metres")
        if self.source == "gps_altitude" and self.ground_elevation_m is None:
            raise ValueError("source gps_altitude is above sea level, so it needs ground_elevation_m")
        return self


class Stratum(ConfigModel):
    """A part of the study area with its own estimate. `polygon` has [longitude, latitude] corners."""

    name: _Name
    area_km2: _Positive | None = None
    polygon: tuple[tuple[float, float], ...] | None = None
    transects_possible: _Positive | None = None

    @field_validator("polygon")
    @classmethod
    def _polygon_is_simple(
        cls, value: tuple[tuple[float, float], ...] | None
    ) -> tuple[tuple[float, float], ...] | None:
        if value is None:
            return None
        if len(set(value)) < 3:
            raise ValueError("a polygon needs at least three corners")
        for lon, lat in value:
            _check_place(lon, lat)
        if not planar_polygon(value).is_valid:
            raise ValueError("the polygon crosses itself")
        return value

    @model_validator(mode="after")
    def _area_is_known(self) -> "Stratum":
        if self.polygon is None and self.area_km2 is None:
            raise ValueError(f"stratum {self.name} needs area_km2 or a polygon")
        if self.polygon is not None and self.area_km2 is not None:
            drawn = polygon_area_km2(self.polygon)
            if abs(drawn - self.area_km2) > _AREA_TOLERANCE * self.area_km2:
                raise ValueError(
                    f"stratum {self.name} says area_km2 {self.area_km2:g}, but its polygon holds {drawn:.4g} km2"
                )
        return self

    @property
    def total_area_km2(self) -> float:
        """The stated area, else the polygon's."""
        if self.area_km2 is not None:
            return self.area_km2
        return polygon_area_km2(self.polygon or ())


class TransectSpec(ConfigModel):
    """The source of a photo's transect: its folder below images/, flights.csv, or none."""

    source: Literal["folder", "flights", "none"] = Field(default="folder", alias="from")


class SurveySpec(ConfigModel):
    """The content of survey.yaml. `cameras` gives by model (as EXIF writes it) what `camera` gives for all.

    `utc_offset` is that of every time that is written without one. `bands` are the numbers, from 1, of the red, green
    and blue bands of its TIFFs, or of one band that is shown as grey.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
    model: str | None = None
    camera: CameraSpec | None = None
    cameras: Annotated[dict[str, CameraSpec], NameKeys] = Field(default_factory=dict)
    height: HeightSpec = HeightSpec()
    bands: Annotated[tuple[_Band, ...], AfterValidator(_one_or_three)] | None = None
    sampling: Literal["strip", "total"] = "strip"
    strata: tuple[Stratum, ...] = ()
    transects: TransectSpec = TransectSpec()
    utc_offset: str | None = None
    species: Annotated[dict[str, _Name | None], NameKeys] = Field(default_factory=dict)
    corrections: Annotated[dict[str, SpeciesFactors], NameKeys] = Field(default_factory=dict)

    @field_validator("utc_offset", mode="before")
    @classmethod
    def _offset_is_read(cls, value: object) -> object:
        # YAML 1.1 reads an unquoted +10:30 as 630, a number to the base of 60.
        if isinstance(value, int) and not isinstance(value, bool):
            value = f"{value:+03d}:00" if abs(value) <= 14 else f"{value // 60:+03d}:{value % 60:02d}"
        if value is not None and (not isinstance(value, str) or read_offset(value) is None):
            raise ValueError(f"{value!r} is no offset from UTC, such as '+03:00'")
        return value

    @property
    def clock_offset(self) -> timezone | None:
        """The offset from UTC of times that are written without one, where it is given."""
        return None if self.utc_offset is None else read_offset(self.utc_offset)

    @model_validator(mode="after")
    def _strata_are_distinct(self) -> "SurveySpec":
        names = [stratum.name for stratum in self.strata]
        if len(set(names)) < len(names):
            raise ValueError("two strata have the same name")
        if len(self.strata) > 1:
            for stratum in self.strata:
                if stratum.polygon is None:
                    raise ValueError(f"stratum {stratum.name} needs a polygon, since there are several strata")
        return self


@dataclass(frozen=True, kw_only=True)
class Survey:
    """A survey folder: `images` are the photos in order of their path.

    `unusable` are photos that cannot be opened, which the census lists as unreadable; `left_out` are all other files
    below images/. Each file is in one of the three. `dem_path` is the DEM that survey.yaml names. `sha256` is that of
    survey.yaml as it was read.

    Where the photos lie in a store, `stored` has them by their name below images/, `store` is that of the photos'
    folder, and the paths of `images` name no file of this machine.
    """

    folder: Path
    spec: SurveySpec
    images: tuple[Path, ...]
    left_out: tuple[Aside, ...] = ()
    unusable: tuple[Aside, ...] = ()
    dem_path: Path | None = None
    sha256: str = ""
    store: Store | None = None
    stored: Mapping[str, StoredFile] = field(default_factory=dict)

    @property
    def is_remote(self) -> bool:
        """Whether the photos lie in a store, and not in the folder."""
        return self.store is not None

    @property
    def place(self) -> str:
        """The folder below which the photos lie, or its address."""
        return str(self.images_folder) if self.store is None else self.store.address

    def photo(self, image: Path) -> Photo:
        """The photo of a path of `images` or `unusable`."""
        if self.store is None:
            return LocalPhoto(image)
        return StoredPhoto(self.store, self.stored[image.relative_to(self.images_folder).as_posix()])

    @property
    def name(self) -> str:
        """The survey's name: survey.yaml's, else the folder's."""
        return self.spec.name

    @property
    def model(self) -> str | None:
        """The model that survey.yaml names, if any: a URI, an alias, or a package folder."""
        return self.spec.model

    @property
    def images_folder(self) -> Path:
        """The folder of the photos."""
        return self.folder / "images"

    @property
    def flights_path(self) -> Path:
        """The table of poses, which is optional."""
        return self.folder / "flights.csv"

    def name_of(self, image: Path) -> str:
        """A photo's path below images/, with forward slashes: its name in every output.

        Bytes of a file name that are not UTF-8 are written as \\xff.
        """
        name = image.relative_to(self.images_folder).as_posix()
        return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def load_survey(folder: Path, dem_folder: Path | None = None, images: "StoredImages | None" = None) -> Survey:
    """Read survey.yaml and find the photos, at any depth and in any case of suffix.

    `dem_folder` is TRANSECT_DEM_PATH, a further folder for DEMs. `images` are the photos where they lie in a store
    instead of in images/. A survey is untrusted input, so no other file that it names, nor the target of a link in
    place of one of its own files, may lie outside of it; photos may be links.
    Raises SurveyError in one sentence for a missing folder or file, a bad key or value, or no photos.
    """
    document = read_yaml_mapping(_described(folder), SurveyError)
    spec = check(SurveySpec, document, SurveyError, "survey.yaml", {"name": _default_name(folder)})
    _check_model(spec, folder)
    survey = Survey(
        folder=folder,
        spec=spec,
        images=(),
        dem_path=_find_dem(spec, folder, dem_folder),
        sha256=document.sha256,
        store=None if images is None else images.store,
        stored={} if images is None else images.stored,
    )
    if images is None and not survey.images_folder.is_dir():
        raise SurveyError(f"{survey.images_folder} is missing: put the photos there, at any depth.")
    if images is None:
        files = find_pictures(survey.images_folder, SurveyError)
    else:
        files = images.sorted_out(survey.images_folder)
    if not files.pictures:
        listed = [f"{survey.name_of(one.path)} {one.reason}" for one in files.unusable[:1]]
        first = f"; the first of {len(files.unusable)} that cannot be read: {listed[0]}" if listed else ""
        raise SurveyError(f"{survey.place} holds no photos ({READ_NAMES}){first}.")
    return replace(survey, images=files.pictures, left_out=files.left_out, unusable=files.unusable)


def _described(folder: Path) -> Path:
    """The path of survey.yaml. Raises SurveyError where it is missing or leads elsewhere."""
    path = folder / "survey.yaml"
    try:
        exists, described = folder.is_dir(), path.is_file()
    except OSError as error:
        raise SurveyError(f"Survey folder {folder} cannot be read: {error.strerror or error}.") from error
    if not exists:
        raise SurveyError(f"Survey folder {folder} does not exist.")
    if not described:
        raise SurveyError(f"{path} is missing: a survey folder holds survey.yaml and images/.")
    for own in (path, folder / "flights.csv"):
        if not _lies_below(own, folder):
            raise SurveyError(f"{own} is a link to a file outside of the survey; put the file itself there.")
    return path


@dataclass(frozen=True)
class StoredImages:
    """The files of a store in which photos lie, by name."""

    store: Store
    stored: Mapping[str, StoredFile]

    def sorted_out(self, below: Path) -> PictureFiles:
        """Pictures and other files, with the paths that they would have below a folder."""
        sizes = ((name, one.size) for name, one in self.stored.items())
        return sort_stored_files(sizes, below, self.store.read_start)


def _find_dem(spec: SurveySpec, folder: Path, dem_folder: Path | None) -> Path | None:
    """The path of the DEM below the survey folder, else below `dem_folder`; below the first where it is missing.

    Raises SurveyError for a path in neither.
    """
    if spec.height.dem is None:
        return None
    folders = [folder] if dem_folder is None else [folder, dem_folder]
    places = [base / spec.height.dem for base in folders]
    path = next((place for place in places if place.exists()), places[0])
    if any(_lies_below(path, base) for base in folders):
        return path
    where = "name its folder with TRANSECT_DEM_PATH" if dem_folder is None else f"into TRANSECT_DEM_PATH, {dem_folder}"
    raise SurveyError(
        f"survey.yaml: height: dem: {spec.height.dem} lies outside of the survey folder {folder}; put it there, or "
        f"{where}."
    )


def _check_model(spec: SurveySpec, folder: Path) -> None:
    """Raise SurveyError where the survey names a package folder outside of itself."""
    try:
        outside = spec.model is not None and Path(spec.model).is_dir() and not _lies_below(Path(spec.model), folder)
    except (OSError, ValueError):
        return  # no name of a folder
    if outside:
        raise SurveyError(
            f"survey.yaml: model: {spec.model} is a folder outside of the survey; choose it yourself, with "
            f"--model {spec.model}."
        )


def _lies_below(path: Path, folder: Path) -> bool:
    """Whether the target of `path`, through links and `..`, lies below `folder`."""
    try:
        return path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError):
        # Circular links, or an invalid path.
        return False


def _default_name(folder: Path) -> str:
    kept = "".join(
        letter if letter.isascii() and (letter.isalnum() or letter in "._-") else "-"
        for letter in folder.resolve().name
    )
    return kept.lstrip("._-")[:100] or "survey"
