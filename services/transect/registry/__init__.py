"""MLflow: packages become versions, aliases become verified local folders, the gate moves `production`."""

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
