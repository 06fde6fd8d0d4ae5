"""MLflow: packages become versions, aliases become verified local folders, the gate moves `production`."""

from transect.registry.build import build_package
from transect.registry.cache import LocalCache, ResolvedVersion
from transect.registry.gate import GateConfig, Measured, load_gate
from transect.registry.listing import VersionRow
from transect.registry.promotion import Rollback, Verdict, promote, rollback
from transect.registry.publish import ModelVersion
from transect.registry.reference import Reference, parse_reference
from transect.registry.store import Registry, connect

__all__ = [
    "GateConfig",
    "LocalCache",
    "Measured",
    "ModelVersion",
    "Reference",
    "Registry",
    "ResolvedVersion",
    "Rollback",
    "Verdict",
    "VersionRow",
    "build_package",
    "connect",
    "load_gate",
    "parse_reference",
    "promote",
    "rollback",
]
