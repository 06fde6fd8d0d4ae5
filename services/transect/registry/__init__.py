"""The model registry on MLflow: register packages, resolve aliases to verified folders, promote through a gate.

Names are imported lazily: MLflow's client takes seconds to import, and a service that starts from its
cache, or a command that does not use MLflow, should not wait for it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transect.registry.promotion.gate import GateConfig, LossLimits, Measured, load_gate
    from transect.registry.promotion.promote import Rollback, Verdict, promote, rollback
    from transect.registry.runs.cleanup import Cleaning, CleanRule, clean_runs, plan_cleaning
    from transect.registry.runs.lineage import run_lineage, version_details, version_lineage
    from transect.registry.runs.search import Comparison, RunRow, compare_runs, find_run, list_runs
    from transect.registry.transfer.export import Copied, export_store, import_store
    from transect.registry.versions.build_package import build_package
    from transect.registry.versions.cache import LocalCache, ResolvedVersion
    from transect.registry.versions.census_basis import CensusBasis
    from transect.registry.versions.listing import VersionRow
    from transect.registry.versions.publish import ModelVersion
    from transect.registry.versions.reference import Reference, parse_reference
    from transect.registry.versions.registry import Registry, connect, store_file
    from transect.registry.webhooks import Registration, WebhookRow, list_webhooks, register_webhook, remove_webhook

__all__ = [
    "CensusBasis",
    "CleanRule",
    "Cleaning",
    "Comparison",
    "Copied",
    "GateConfig",
    "LocalCache",
    "LossLimits",
    "Measured",
    "ModelVersion",
    "Reference",
    "Registration",
    "Registry",
    "ResolvedVersion",
    "Rollback",
    "RunRow",
    "Verdict",
    "VersionRow",
    "WebhookRow",
    "build_package",
    "clean_runs",
    "compare_runs",
    "connect",
    "export_store",
    "find_run",
    "import_store",
    "list_runs",
    "list_webhooks",
    "load_gate",
    "parse_reference",
    "plan_cleaning",
    "promote",
    "register_webhook",
    "remove_webhook",
    "rollback",
    "run_lineage",
    "store_file",
    "version_details",
    "version_lineage",
]

_MODULES = {
    "CensusBasis": "versions.census_basis",
    "CleanRule": "runs.cleanup",
    "Cleaning": "runs.cleanup",
    "Comparison": "runs.search",
    "Copied": "transfer.export",
    "GateConfig": "promotion.gate",
    "LocalCache": "versions.cache",
    "LossLimits": "promotion.gate",
    "Measured": "promotion.gate",
    "ModelVersion": "versions.publish",
    "Reference": "versions.reference",
    "Registration": "webhooks",
    "Registry": "versions.registry",
    "ResolvedVersion": "versions.cache",
    "Rollback": "promotion.promote",
    "RunRow": "runs.search",
    "Verdict": "promotion.promote",
    "VersionRow": "versions.listing",
    "WebhookRow": "webhooks",
    "build_package": "versions.build_package",
    "clean_runs": "runs.cleanup",
    "compare_runs": "runs.search",
    "connect": "versions.registry",
    "export_store": "transfer.export",
    "find_run": "runs.search",
    "import_store": "transfer.export",
    "list_runs": "runs.search",
    "list_webhooks": "webhooks",
    "load_gate": "promotion.gate",
    "parse_reference": "versions.reference",
    "plan_cleaning": "runs.cleanup",
    "promote": "promotion.promote",
    "register_webhook": "webhooks",
    "remove_webhook": "webhooks",
    "rollback": "promotion.promote",
    "run_lineage": "runs.lineage",
    "store_file": "versions.registry",
    "version_details": "runs.lineage",
    "version_lineage": "runs.lineage",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its module on first use (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value
