"""MLflow: packages become versions, aliases become verified local folders, the gate moves `production`.

Names are imported when they are first used: MLflow's client takes seconds, and a service that
starts from its cache, or a command that asks MLflow nothing, need not wait for it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transect.registry.build import build_package
    from transect.registry.cache import LocalCache, ResolvedVersion
    from transect.registry.census_basis import CensusBasis
    from transect.registry.clean import Cleaning, CleanRule, clean_runs, plan_cleaning
    from transect.registry.export import Copied, export_store, import_store
    from transect.registry.gate import GateConfig, LossLimits, Measured, load_gate
    from transect.registry.history import Comparison, RunRow, compare_runs, find_run, list_runs
    from transect.registry.lineage import run_lineage, version_details, version_lineage
    from transect.registry.listing import VersionRow
    from transect.registry.promotion import Rollback, Verdict, promote, rollback
    from transect.registry.publish import ModelVersion
    from transect.registry.reference import Reference, parse_reference
    from transect.registry.store import Registry, connect, store_file
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
    "CensusBasis": "census_basis",
    "CleanRule": "clean",
    "Cleaning": "clean",
    "Comparison": "history",
    "Copied": "export",
    "GateConfig": "gate",
    "LocalCache": "cache",
    "LossLimits": "gate",
    "Measured": "gate",
    "ModelVersion": "publish",
    "Reference": "reference",
    "Registration": "webhooks",
    "Registry": "store",
    "ResolvedVersion": "cache",
    "Rollback": "promotion",
    "RunRow": "history",
    "Verdict": "promotion",
    "VersionRow": "listing",
    "WebhookRow": "webhooks",
    "build_package": "build",
    "clean_runs": "clean",
    "compare_runs": "history",
    "connect": "store",
    "export_store": "export",
    "find_run": "history",
    "import_store": "export",
    "list_runs": "history",
    "list_webhooks": "webhooks",
    "load_gate": "gate",
    "parse_reference": "reference",
    "plan_cleaning": "clean",
    "promote": "promotion",
    "register_webhook": "webhooks",
    "remove_webhook": "webhooks",
    "rollback": "promotion",
    "run_lineage": "lineage",
    "store_file": "store",
    "version_details": "lineage",
    "version_lineage": "lineage",
}


def __getattr__(name: str) -> Any:
    """The public name, from the module that holds it (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value
