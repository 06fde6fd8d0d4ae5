"""Model sources for the follower: the registry with its local cache."""

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
    """Resolves an alias and fetches the package of its version."""

    def prepare(self) -> None:
        """Import the client of the registry. May take seconds; makes no request."""

    def resolve(self) -> ResolvedVersion:
        """Return the alias's current version; RegistryError if it cannot be resolved."""

    def fetch(self, resolved: ResolvedVersion) -> Path:
        """Return a verified local copy of the package; RegistryError or PackageError."""

    def last_known(self) -> tuple[ResolvedVersion, Path] | None:
        """Return the version passed to `remember` last, if there is a local copy."""

    def remember(self, resolved: ResolvedVersion) -> None:
        """Store `resolved`, which is now served, as the last known version."""


class RegistrySource:
    """The followed alias in MLflow. Connects on first use, and again after a failed connection."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._cache = LocalCache(settings.cache_dir)
        self._registry: Registry | None = None
        self._in_use = ExitStack()

    def prepare(self) -> None:
        """Import MLflow's client, which takes too long for the start of the service."""
        import transect.registry.versions.registry  # noqa: F401 - for its effect

    def resolve(self) -> ResolvedVersion:
        """Return the alias's current version."""
        return self._connected().resolve(f"models:/{self._settings.model_name}@{self._settings.model_alias}")

    def fetch(self, resolved: ResolvedVersion) -> Path:
        """Return a verified local copy of the package."""
        return self._connected().fetch(resolved)

    def last_known(self) -> tuple[ResolvedVersion, Path] | None:
        """Return the last verified version of the alias on this machine."""
        return self._cache.last_known(self._settings.model_name, self._settings.model_alias)

    def remember(self, resolved: ResolvedVersion) -> None:
        """Store the version to start from while MLflow is unavailable, protect it from pruning, and prune others."""
        self._cache.remember(resolved)
        previous, self._in_use = self._in_use, ExitStack()
        try:
            self._in_use.enter_context(self._cache.in_use(resolved))
            previous.close()
            for folder in self._cache.prune(resolved.name, self._settings.cache_versions):
                _log.info("Removed an old version from the cache", extra={"folder": folder.name})
        except OSError as error:
            # A full or read-only disk must not fail a finished swap.
            _log.warning("The model cache cannot be pruned", extra={"reason": str(error)})

    def _connected(self) -> "Registry":
        if self._registry is None:
            from transect.registry import connect

            self._registry = connect(self._settings)
        return self._registry
