"""Metric and parameter names that MLflow accepts, one for each of ours."""

import hashlib
import unicodedata
from collections.abc import Iterable

# Length of MLflow's columns in characters (mlflow.utils.validation.MAX_ENTITY_KEY_LENGTH).
_LONGEST = 250
# The part left for a class name between `production/class/` and `/recall_at_conf_high`.
_LONGEST_CLASS = 180
_DOTS = {"": "_", ".": "_", "..": "__"}


def metric_name(name: str) -> str:
    """Sanitize `name` for MLflow: keep letters and digits of any script and `_-. /`, replace others by `_`.

    MLflow's rule is `[/\\w.\\- :]*`, without the colon on Windows, for a path without empty, `.` and `..`
    parts. A name that is too long is truncated and ends with a hash of the whole. Two names may collide;
    use `distinct_metric_names` for several.
    """
    kept = "".join(c if c.isalnum() or c in "_-. /" else "_" for c in unicodedata.normalize("NFC", name))
    return _cut(name, "/".join(_DOTS.get(part, part) for part in kept.split("/")), _LONGEST)


def distinct_metric_names(names: Iterable[str]) -> dict[str, str]:
    """A distinct MLflow name for each of `names`.

    If several collide, the one that needs no change keeps its name, and each other gets a hash of itself
    as a suffix. The result depends only on the names, so it is the same in every run with the same classes.
    """
    return _distinct({name: metric_name(name) for name in names}, _LONGEST)


def class_names(names: Iterable[str]) -> dict[str, str]:
    """The part of a metric's name for each class, such as `zebra` in test/class/zebra/mAP50."""
    return _distinct({name: _cut(name, metric_name(name), _LONGEST_CLASS) for name in names}, _LONGEST_CLASS)


def _distinct(plain: dict[str, str], longest: int) -> dict[str, str]:
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
