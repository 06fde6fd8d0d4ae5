"""MLflow: packages become versions, aliases become verified local folders, the gate moves `production`.

Names are imported when they are first used: MLflow's client takes seconds, and a service that
starts from its cache, or a command that asks MLflow nothing, need not wait for it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transect.registry.build import build_package
    from transect.registry.cache import LocalCache, ResolvedVersion
    from transect.registry.gate import GateConfig, Measured, load_gate
    from transect.registry.listing import VersionRow
    from transect.registry.promotion import Rollback, Verdict, promote, rollback
    from transect.registry.publish import ModelVersion
    from transect.registry.reference import Reference, parse_reference
    from transect.registry.store import Registry, connect
    from transect.registry.webhooks import Registration, WebhookRow, list_webhooks, register_webhook, remove_webhook

__all__ = [
    "GateConfig",
    "LocalCache",
    "Measured",
    "ModelVersion",
    "Reference",
    "Registration",
    "Registry",
    "ResolvedVersion",
    "Rollback",
    "Verdict",
    "VersionRow",
    "WebhookRow",
    "build_package",
    "connect",
    "list_webhooks",
    "load_gate",
    "parse_reference",
    "promote",
    "register_webhook",
    "remove_webhook",
    "rollback",
]

_MODULES = {
    "GateConfig": "gate",
    "LocalCache": "cache",
    "Measured": "gate",
    "ModelVersion": "publish",
    "Reference": "reference",
    "Registration": "webhooks",
    "Registry": "store",
    "ResolvedVersion": "cache",
    "Rollback": "promotion",
    "Verdict": "promotion",
    "VersionRow": "listing",
    "WebhookRow": "webhooks",
    "build_package": "build",
    "connect": "store",
    "list_webhooks": "webhooks",
    "load_gate": "gate",
    "parse_reference": "reference",
    "promote": "promotion",
    "register_webhook": "webhooks",
    "remove_webhook": "webhooks",
    "rollback": "promotion",
}


def __getattr__(name: str) -> Any:
    """The public name, from the module that holds it (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value
