"""Names of metrics and parameters that MLflow takes, one for each of ours."""

import hashlib
import unicodedata
from collections.abc import Iterable

# MLflow's columns hold 250 characters (mlflow.utils.validation.MAX_ENTITY_KEY_LENGTH), whatever their bytes.
_LONGEST = 250
# What is left of them for a class, with `production/class/` before it and `/recall_at_conf_high` behind it.
_LONGEST_CLASS = 180
_DOTS = {"": "_", ".": "_", "..": "__"}


def metric_name(name: str) -> str:
    """`name` as MLflow takes it: letters and digits of any script and `_-. /` stay, anything else is `_`.

    MLflow's rule is `[/\\w.\\- :]*`, without the colon on Windows, for a path that has no part that is empty, `.`
    or `..`. A name that is too long is cut, and ends with a hash of the whole. Two names may come out
    as one: `told_apart` is for several.
    """
    kept = "".join(c if c.isalnum() or c in "_-. /" else "_" for c in unicodedata.normalize("NFC", name))
    return _cut(name, "/".join(_DOTS.get(part, part) for part in kept.split("/")), _LONGEST)


def told_apart(names: Iterable[str]) -> dict[str, str]:
    """A name of its own for each of `names`.

    Where several come out as one, that which MLflow takes as it stands keeps it, and each other one gets
    a hash of itself behind it: it depends on the names alone, and is the same in every run with the same classes.
    """
    return _told_apart({name: metric_name(name) for name in names}, _LONGEST)


def class_names(names: Iterable[str]) -> dict[str, str]:
    """For each class the part of a metric's name that stands for it, such as `zebra` in test/class/zebra/mAP50."""
    return _told_apart({name: _cut(name, metric_name(name), _LONGEST_CLASS) for name in names}, _LONGEST_CLASS)


def _told_apart(plain: dict[str, str], longest: int) -> dict[str, str]:
    shared: dict[str, list[str]] = {}
    for name, taken in plain.items():
        shared.setdefault(taken, []).append(name)
    return {
        name: taken if name == taken or len(shared[taken]) == 1 else _with_hash(name, taken, longest)
        for name, taken in plain.items()
    }


def _cut(name: str, taken: str, longest: int) -> str:
    return taken if len(taken) <= longest else _with_hash(name, taken, longest)


def _with_hash(name: str, taken: str, longest: int) -> str:
    mark = "-" + hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return taken[: longest - len(mark)] + mark
