"""What all machines that search one survey into one store agree on, so that none of them finds other boxes."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from transect.errors import InputError
from transect.stores import Store

_FILE = "search.json"
_SHARDS = "shards.json"


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """The survey's name, the model, and everything that decides a box: see sightings.detect.search_content().

    `model` is the reference of a registered version, empty for a package folder. `candidates` is the threshold of what
    is kept for people, and `gsd` that of the census configuration. It is a detect.Searcher.
    """

    survey: str
    model: str
    search: Mapping[str, Any]
    candidates: float | None
    gsd: float | str | None

    @property
    def package_sha256(self) -> str:
        """SHA-256 of the package's manifest."""
        return str(self.search["package"])

    @property
    def backend(self) -> str:
        """The name of the library that runs the network."""
        return str(self.search["backend"])

    @property
    def precision(self) -> str:
        """The numeric precision of inference."""
        return str(self.search["precision"])

    @property
    def instructions(self) -> str:
        """The CPU's instruction set and kernels, or the GPU's architecture and name."""
        return str(self.search["instructions"])

    @property
    def library(self) -> str:
        """The inference library with its version."""
        return str(self.search["library"])


_WORDS = {
    "package": "model package",
    "backend": "backend",
    "precision": "precision",
    "instructions": "instruction set",
    "library": "inference library",
    "options": "search options",
    "transect": "version of Transect",
}
_REMEDIES = {
    "package": "give --model the version that the search began with",
    "precision": "set TRANSECT_PRECISION to it",
    "backend": "set TRANSECT_BACKEND to it",
    "instructions": "on CPUs of several kinds begin the search with TRANSECT_PRECISION=fp32 and the oldest kind's "
    "instruction set as ONEDNN_MAX_CPU_ISA, on every machine",
}


def read_agreement(store: Store) -> Agreement | None:
    """The agreement that a store holds; None where nobody has searched into it.

    Raises InputError where it is damaged, and what a Store raises.
    """
    try:
        content, _ = store.read(_FILE)
    except FileNotFoundError:
        return None
    try:
        return Agreement(**json.loads(content))
    except (ValueError, TypeError) as error:
        raise InputError(
            f"{store.address}/{_FILE} is damaged; give another --parts, or remove it to begin anew."
        ) from error


def agree(store: Store, mine: Agreement) -> None:
    """Make `mine` the store's agreement, or require that it is.

    Raises InputError that names every difference, and what a Store raises.
    """
    if store.create(_FILE, json.dumps(asdict(mine), indent=2, sort_keys=True).encode()):
        return
    theirs = read_agreement(store)
    if theirs is not None:
        require_same(store, theirs, mine)


def require_same(store: Store, theirs: Agreement, mine: Agreement) -> None:
    """Raise InputError that names every difference between the store's agreement and one's own."""
    found, remedies = [], []
    if theirs.survey != mine.survey:
        found.append(f"survey {theirs.survey}, not {mine.survey}")
    for name, word in _WORDS.items():
        if theirs.search.get(name) != mine.search.get(name):
            found.append(f"{word} {_shown(theirs.search.get(name))}, not {_shown(mine.search.get(name))}")
            if name in _REMEDIES:
                remedies.append(_REMEDIES[name])
    if theirs.candidates != mine.candidates:
        found.append(f"review_conf {theirs.candidates}, not {mine.candidates}")
    if theirs.gsd != mine.gsd:
        found.append(f"gsd {theirs.gsd}, not {mine.gsd}")
    if found:
        remedies.append("give another --parts")
        raise InputError(
            f"{store.address} holds a search with another result than this machine would find: {'; '.join(found)}. "
            f"To go on, {', or '.join(remedies)}."
        )


def agree_on_shards(store: Store, count: int) -> None:
    """Make `count` the number of shards of a store's search, or require that it is. Raises InputError."""
    if store.create(_SHARDS, json.dumps({"shards": count}).encode()):
        return
    try:
        known = int(json.loads(store.read(_SHARDS)[0])["shards"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return
    if known != count:
        raise InputError(
            f"{store.address} is searched in {known} shards, and this is one of {count}: shards of different cuts "
            f"leave photos out or search them twice; give --shard I/{known}, or another --parts."
        )


def _shown(value: object) -> str:
    if isinstance(value, Mapping):
        return json.dumps(value, sort_keys=True)
    text = str(value)
    return text[:12] if len(text) == 64 else text
