"""The vertical unit and datum of a DEM."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyproj import CRS

from transect.census.inputs.survey import HeightSpec
from transect.errors import SurveyError

# The international foot, and the survey foot of the United States (NIST Special Publication 811, B.6): 1200/3937 m.
_FOOT_M, _SURVEY_FOOT_M = 0.3048, 1200 / 3937
_NAMES = {
    1.0: ("m", "metre", "metres", "meter", "meters", "mt", "mtr", "metro", "metros"),
    0.01: ("cm", "centimetre", "centimetres", "centimeter", "centimeters"),
    0.1: ("dm", "decimetre", "decimetres", "decimeter", "decimeters"),
    0.001: ("mm", "millimetre", "millimetres", "millimeter", "millimeters"),
    1000.0: ("km", "kilometre", "kilometres", "kilometer", "kilometers"),
    _FOOT_M: ("ft", "foot", "feet", "international foot", "international feet", "ift", "foot intl"),
    _SURVEY_FOOT_M: (
        "us survey foot", "us survey feet", "us foot", "us feet", "us ft", "ftus", "ft us", "foot us", "sft", "usft",
        "survey foot", "survey feet", "u s survey foot", "u s survey feet", "ussurveyfoot", "us survey ft",
    ),
    0.9144: ("yd", "yard", "yards"),
}  # fmt: skip
_METRES = {name: metres for metres, names in _NAMES.items() for name in names}
_LABELS = {1.0: "metres", 0.01: "centimetres", 0.1: "decimetres", 0.001: "millimetres", 1000.0: "kilometres",
           _FOOT_M: "feet", _SURVEY_FOOT_M: "US survey feet", 0.9144: "yards"}  # fmt: skip
# A surface may follow the unit.
_SURFACE = re.compile(r"\b(above|over|asl|amsl|msl|a s l|a m s l|navd|egm|ell|orthometric)\b.*")
_ALIKE = 1e-3
_FEET_IN_WORDS = re.compile(r"\b(feet|foot|ft)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Vertical:
    """Metres a unit of a DEM, and notes on the decisions."""

    metres: float
    notes: tuple[str, ...]


def unit_m(text: str) -> float | None:
    """Metres a unit, from its name in a file (`ft`, `US survey foot`, `metres above sea level`)."""
    plain = re.sub(r"[^a-z]+", " ", text.lower()).strip()
    return _METRES.get(plain, _METRES.get(_SURFACE.sub("", plain).strip()))


def vertical_of(dem: Any, crs: CRS, rule: HeightSpec, path: Path) -> Vertical:
    """The unit of an open DEM: survey.yaml's `dem_unit`, else the band's, else the vertical axis', else metres.

    Raises SurveyError where band and axis contradict each other, where the unit is unknown, or where it is missing and
    feet are likely, each with the key to set.
    """
    remedy = "set height: {dem_unit: m} or ft or us-ft in survey.yaml"
    axis = next((axis for axis in crs.axis_info if axis.direction in ("up", "down")), None)
    if axis is not None and axis.direction == "down":
        raise SurveyError(f"{path} holds depths, not heights, by its coordinate reference system ({crs.name}).")
    written = (dem.units[0] or dem.tags(1).get("units") or "").strip()
    by_band = unit_m(written) if written else None
    by_axis = axis.unit_conversion_factor if axis is not None else None
    notes = list[str]()
    if rule.dem_unit is not None:
        metres, source = _METRES[rule.dem_unit.replace("-", " ")], "height: dem_unit"
    elif written and by_band is None and by_axis is None:
        raise SurveyError(f"{path} gives its elevations in {written!r}, which is no known unit; {remedy}.")
    elif by_band is not None and by_axis is not None and abs(by_band / by_axis - 1) > _ALIKE:
        raise SurveyError(
            f"{path} contradicts itself: its band is in {_label(by_band)}, the vertical axis of its coordinate "
            f"reference system in {_label(by_axis)}; {remedy}."
        )
    elif by_axis is not None:
        metres, source = by_axis, "the vertical axis of its coordinate reference system"
    elif by_band is not None:
        metres, source = by_band, f"its band's unit, {written}"
    elif _likely_feet(dem, crs):
        raise SurveyError(f"{path} does not say whether its elevations are metres, and feet stand in it; {remedy}.")
    else:
        metres, source = 1.0, "no unit is written"
    if metres != 1.0:
        notes.append(f"elevations are in {_label(metres)} ({source}); they are read as metres x {metres:.6g}.")
    datum = datum_of(crs)
    if rule.altitude == "gps":
        above = f"counts from {datum}" if datum else "does not name its vertical datum"
        notes.append(
            f"the DEM {above}, and a receiver's altitude counts from the ellipsoid or from sea level; they differ by "
            f"up to 100 m, and height: vertical_offset_m {rule.vertical_offset_m:g} was added to bring them together."
        )
    elif datum and metres != 1.0:
        notes.append(f"elevations count from {datum}.")
    return Vertical(metres, tuple(notes))


def datum_of(crs: CRS) -> str:
    """The vertical datum, as the coordinate reference system names it; empty where it does not."""
    if crs.is_compound:
        return next((one.name for one in crs.sub_crs_list if one.is_vertical), "")
    if any(axis.direction == "up" for axis in crs.axis_info):
        return f"the ellipsoid ({crs.name})"
    return ""


def _likely_feet(dem: Any, crs: CRS) -> bool:
    """Whether horizontal units or the band's description are in feet, so that heights may be too."""
    plane_in_metres = crs.is_geographic or all(abs(axis.unit_conversion_factor - 1) < _ALIKE for axis in crs.axis_info)
    return not plane_in_metres or bool(_FEET_IN_WORDS.search(dem.descriptions[0] or ""))


def _label(metres: float) -> str:
    return next((label for one, label in _LABELS.items() if abs(metres / one - 1) < 1e-7), f"units of {metres:g} m")
