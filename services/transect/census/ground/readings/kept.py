"""Readings of photos that are kept in a store, so that each file is read once, by whichever machine."""

import json
import threading
from typing import Any

import shapely
from pydantic import TypeAdapter

from transect import __version__
from transect.census.ground.orthomosaic import Georeference
from transect.census.ground.readings.reading import PhotoReading
from transect.census.parts.segments import SegmentWriter, merge_segments, read_segments
from transect.imagery import FrameMetadata
from transect.stores import Store

_METADATA = TypeAdapter(FrameMetadata)
_FOLDER = "readings"


class KeptReadings:
    """The readings of a survey's photos in a store, by name and tag. Thread-safe; a context manager.

    `bands` are those of the survey, by which TIFFs are read. Readings of another version of Transect are not used.
    """

    def __init__(self, store: Store, bands: tuple[int, ...] | None) -> None:
        """Read what is kept. Raises what a Store raises."""
        self._store = store
        self._reader = json.dumps([__version__, bands])
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[str, bytes]] = {}
        self.refresh()
        self._writer = SegmentWriter(store, _FOLDER)

    def __enter__(self) -> "KeptReadings":
        self._writer.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._writer.__exit__(kind, error, trace)

    def refresh(self) -> None:
        """Take in what other processes have kept since."""
        for (name, tag, reader), content in read_segments(self._store, _FOLDER):
            if reader == self._reader:
                with self._lock:
                    self._kept[name] = (tag, content)

    def merge(self) -> None:
        """Put many small files of readings into few; see merge_segments()."""
        self._writer.flush()
        merge_segments(self._store, _FOLDER)

    def find(self, name: str, tag: str) -> PhotoReading | None:
        """The reading of a file that still has this tag."""
        with self._lock:
            found = self._kept.get(name)
        return _reading(json.loads(found[1])) if found is not None and found[0] == tag else None

    def keep(self, name: str, tag: str, reading: PhotoReading) -> None:
        """Keep a reading. Raises what a Store raises."""
        self._writer.add((name, tag, self._reader), _record(reading))


def _record(reading: PhotoReading) -> dict[str, Any]:
    place = reading.map
    return {
        "metadata": _METADATA.dump_python(reading.metadata, mode="json"),
        "map": None if place is None else vars(place) | {"valid": shapely.to_wkb(place.valid).hex()},
        "map_problem": reading.map_problem,
        "failure": reading.failure,
        "stamp": reading.stamp,
        "depth": reading.depth,
        "remarks": reading.remarks,
    }


def _reading(record: dict[str, Any]) -> PhotoReading:
    place, stamp = record["map"], record["stamp"]
    if place is not None:
        place = Georeference(
            **place | {"affine": tuple(place["affine"]), "valid": shapely.from_wkb(bytes.fromhex(place["valid"]))}
        )
    return PhotoReading(
        metadata=_METADATA.validate_python(record["metadata"]),
        map=place,
        map_problem=record["map_problem"],
        failure=record["failure"],
        stamp=None if stamp is None else (stamp[0], stamp[1]),
        depth=record["depth"],
        remarks=tuple(record["remarks"]),
    )
