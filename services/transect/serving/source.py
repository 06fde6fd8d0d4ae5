"""Where models come from, as the follower sees it: the registry, and the cache beside it."""

from pathlib import Path
from typing import Protocol

from transect.registry import LocalCache, Registry, ResolvedVersion, connect
from transect.settings import Settings


class ModelSource(Protocol):
    """Answers where an alias points and brings the package that it points to."""

    def resolve(self) -> ResolvedVersion:
        """The version behind the alias now; RegistryError when nobody can say."""

    def fetch(self, resolved: ResolvedVersion) -> Path:
        """A verified local copy of its package; RegistryError or PackageError."""

    def last_known(self) -> tuple[ResolvedVersion, Path] | None:
        """What the alias pointed to when it was last asked successfully, if a copy is here."""

    def remember(self, resolved: ResolvedVersion) -> None:
        """Make `resolved` what `last_known` answers."""


class RegistrySource:
    """The followed alias in MLflow. Connects when first asked, and again after a failure to connect."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._cache = LocalCache(settings.cache_dir)
        self._registry: Registry | None = None

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
        """Note which version to start from when MLflow is away."""
        self._cache.remember(resolved)

    def _connected(self) -> Registry:
        if self._registry is None:
            self._registry = connect(self._settings)
        return self._registry
