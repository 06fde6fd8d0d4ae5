"""Views of the ground as JSON, without a loss: a view that is read back projects every pixel to the same float64."""

import json
from dataclasses import asdict
from typing import Any

from shapely import from_wkb, to_wkb

from transect.census.ground.geometry import GroundView, Pose
from transect.census.ground.orthomosaic import Georeference, Mosaic


def view_to_json(view: GroundView) -> str:
    """A photo's pose or a map's georeference, in one line."""
    if isinstance(view, Pose):
        return json.dumps({"kind": "photo", **asdict(view)}, allow_nan=False)
    if not isinstance(view, Mosaic):
        raise TypeError(f"no record is known for a {type(view).__name__}")
    reference = view.georeference
    record = {
        "kind": "map",
        "epsg": view.epsg,
        "position_sd_m": view.position_sd_m,
        "crs": reference.crs,
        "affine": reference.affine,
        "width": reference.width,
        "height": reference.height,
        "valid": to_wkb(reference.valid, hex=True),
        "latitude": reference.latitude,
        "longitude": reference.longitude,
        "gsd_m": reference.gsd_m,
    }
    return json.dumps(record, allow_nan=False)


def view_from_json(text: str) -> GroundView:
    """The view of view_to_json(). Raises ValueError, TypeError or KeyError for another text."""
    record: dict[str, Any] = json.loads(text)
    kind = record.pop("kind")
    if kind == "photo":
        return Pose(**record)
    if kind != "map":
        raise ValueError(f"the kind of view {kind!r}")
    epsg, position_sd_m = record.pop("epsg"), record.pop("position_sd_m")
    affine, valid = tuple(record.pop("affine")), from_wkb(record.pop("valid"))
    return Mosaic(Georeference(**record, affine=affine, valid=valid), epsg, position_sd_m)
