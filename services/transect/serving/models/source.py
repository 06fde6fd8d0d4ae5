"""Where models come from, as the follower sees it: the registry, and the cache beside it."""

import logging
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from transect.registry import LocalCache, ResolvedVersion
from transect.settings import Settings

if TYPE_CHECKING:
    from transect.registry import Registry

_log = logging.getLogger(__name__)


class ModelSource(Protocol):
    """Answers where an alias points and brings the package that it points to."""

    def prepare(self) -> None:
        """Load what asking needs. May take seconds; asks nobody."""

    def resolve(self) -> ResolvedVersion:
        """The version behind the alias now; RegistryError when nobody can say."""

    def fetch(self, resolved: ResolvedVersion) -> Path:
        """A verified local copy of its package; RegistryError or PackageError."""

    def last_known(self) -> tuple[ResolvedVersion, Path] | None:
        """What the alias pointed to when it was last asked successfully, if a copy is here."""

    def remember(self, resolved: ResolvedVersion) -> None:
        """`resolved` is served now: make it what `last_known` answers."""


class RegistrySource:
    """The followed alias in MLflow. Connects when first asked, and again after a failure to connect."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._cache = LocalCache(settings.cache_dir)
        self._registry: Registry | None = None
        self._in_use = ExitStack()

    def prepare(self) -> None:
        """Import MLflow's client, which the service does not wait for when it starts."""
        import transect.registry.versions.registry  # noqa: F401 - for its effect

    def resolve(self) -> ResolvedVersion:
        """The version behind the alias now."""
        return self._connected().resolve(f"models:/{self._settings.model_name}@{self._settings.model_alias}")

    def fetch(self, resolved: ResolvedVersion) -> Path:
        """A verified local copy of its package."""
        return self._connected().fetch(resolved)

    def last_known(self) -> tuple[ResolvedVersion, Path] | None:
        """The last verified version of the alias on this machine."""
        return self._cache.last_known(self._settings.model_name, self._settings.model_alias)

    def remember(self, resolved: ResolvedVersion) -> None:
        """Note which version to start from when MLflow is away, keep it from being pruned, and prune others."""
        self._cache.remember(resolved)
        before, self._in_use = self._in_use, ExitStack()
        try:
            self._in_use.enter_context(self._cache.in_use(resolved))
            before.close()
            for folder in self._cache.prune(resolved.name, self._settings.cache_versions):
                _log.info("Removed an old version from the cache", extra={"folder": folder.name})
        except OSError as error:
            # A full or read-only disk must not stop a swap that is done.
            _log.warning("The model cache cannot be pruned", extra={"reason": str(error)})

    def _connected(self) -> "Registry":
        if self._registry is None:
            from transect.registry import connect

            self._registry = connect(self._settings)
        return self._registry
