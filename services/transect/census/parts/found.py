"""Kept results of the search: what was found in each photo, by its content, and which content each file has."""

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from transect.census.parts.earlier import has_earlier_parts, read_earlier_part
from transect.census.parts.segments import SegmentWriter, merge_segments, read_segments
from transect.stores import FolderStore, Store


class Look(NamedTuple):
    """A look at a photo: its name, and the tag (Photo.tag) and SHA-256 of its content.

    `tag` is empty where the content may have changed since, and `sha256` where it could not be read. `variant` is how
    it was shown to the network. `failure` is the reason why it could not be searched, empty where it was.
    """

    name: str
    tag: str
    sha256: str
    variant: str
    failure: str = ""


@dataclass(frozen=True, kw_only=True)
class PhotoPart:
    """What was found in one photo: a record of what counts, and candidates by the threshold that they were kept from.

    Both are what JSON takes.
    """

    counted: Mapping[str, Any]
    candidates: Mapping[str, Any] = field(default_factory=dict)


class FoundParts:
    """The results of one search (see sightings.detect.search_key) in a store. Thread-safe; a context manager.

    Every result that is kept when this is opened can be asked for, whoever found it and wherever.
    """

    def __init__(self, store: Store, key: str) -> None:
        """Read what is kept. Raises what a Store raises."""
        self.store, self.folder = store, key[:16]
        self._lock = threading.Lock()
        self._parts: dict[tuple[str, str], list[bytes]] = {}
        self._looks: dict[str, Look] = {}
        for record, content in read_segments(store, self.folder):
            self._take(Look(*record), content)
        self._writer = SegmentWriter(store, self.folder)
        below = store.folder / self.folder if isinstance(store, FolderStore) else None
        self._earlier = below if below is not None and has_earlier_parts(below) else None

    def __enter__(self) -> "FoundParts":
        self._writer.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._writer.__exit__(kind, error, trace)

    def merge(self) -> None:
        """Put many small files of results into few. Only one process at a time may; others may read and write."""
        self._writer.flush()
        merge_segments(self.store, self.folder)

    def looked(self, name: str, tag: str) -> Look | None:
        """The last look at a photo, if its file still has this tag."""
        with self._lock:
            found = self._looks.get(name)
        return found if found is not None and found.tag == tag else None

    def find(self, sha256: str, variant: str) -> PhotoPart | None:
        """What was found in a photo of this content; `variant` is how it was shown and scaled."""
        with self._lock:
            lines = list(self._parts.get((sha256, variant), ()))
        counted: Mapping[str, Any] | None = None
        candidates: dict[str, Any] = {}
        if self._earlier is not None:
            counted, candidates = read_earlier_part(self._earlier, sha256, variant)
        for line in lines:
            content = json.loads(line)
            counted = content["counted"] if counted is None else counted
            candidates.update(content["candidates"])
        return None if counted is None else PhotoPart(counted=counted, candidates=candidates)

    def keep(self, look: Look, part: PhotoPart | None) -> None:
        """Keep a look and what it found; None where that is kept already, or there is nothing.

        Raises what a Store raises.
        """
        content = {} if part is None else {"counted": part.counted, "candidates": part.candidates}
        self._writer.add(look, content)
        self._take(look, json.dumps(content, allow_nan=False).encode())

    def _take(self, look: Look, content: bytes) -> None:
        with self._lock:
            if look.tag:
                self._looks[look.name] = look
            if content != b"{}":
                self._parts.setdefault((look.sha256, look.variant), []).append(content)
