"""Webhooks of an MLflow server: list, register and remove them.

If the server has user accounts, only an MLflow administrator may manage them.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from mlflow.entities.webhook import Webhook, WebhookEvent, WebhookEventStr

from transect.errors import InputError, RegistryError
from transect.registry.client.connection import is_embedded, mlflow_errors_as, redact_uri
from transect.registry.client.queries import PAGE, paginate
from transect.registry.versions.registry import Registry

_NAME = "transect"
_EVENTS: list[WebhookEventStr | WebhookEvent] = ["model_version_alias.created", "model_version_alias.deleted"]


@dataclass(frozen=True)
class WebhookRow:
    """A webhook as MLflow lists it, without its secret."""

    id: str
    name: str
    url: str
    events: tuple[str, ...]
    active: bool


@dataclass(frozen=True)
class Registration:
    """The result of a registration; `trouble` is the error of MLflow's test message, None if it was accepted."""

    webhook: WebhookRow
    made: bool
    trouble: str | None


def list_webhooks(registry: Registry) -> list[WebhookRow]:
    """List all webhooks of the server, newest first. Raises RegistryError."""
    _need_server(registry)
    with mlflow_errors_as(registry.uri, "listing webhooks"):
        return [_row(webhook) for webhook in _all(registry)]


def register_webhook(registry: Registry, url: str) -> Registration:
    """Register a webhook that notifies the service at `url` when an alias moves; update it if it exists.

    The secret is TRANSECT_WEBHOOK_SECRET, which the service needs too. MLflow then sends a test
    message. Raises InputError without a secret, RegistryError when MLflow rejects it.
    """
    _need_server(registry)
    secret = registry.settings.webhook_secret
    if not secret:
        raise InputError("TRANSECT_WEBHOOK_SECRET is not set; give the service and this command the same random text.")
    with mlflow_errors_as(registry.uri, f"registering a webhook to {url}"):
        known = next((webhook for webhook in _all(registry) if (webhook.name, webhook.url) == (_NAME, url)), None)
        if known is None:
            webhook = registry.client.create_webhook(_NAME, url, _EVENTS, secret=secret)
        else:
            webhook = registry.client.update_webhook(known.webhook_id, events=_EVENTS, secret=secret, status="ACTIVE")
        test = registry.client.test_webhook(webhook.webhook_id)
    trouble = None if test.success else test.error_message or f"{test.response_status}: {test.response_body}"
    return Registration(_row(webhook), made=known is None, trouble=trouble)


def remove_webhook(registry: Registry, webhook_id: str) -> None:
    """Delete the webhook with this id. Raises RegistryError, also when it does not exist."""
    _need_server(registry)
    with mlflow_errors_as(registry.uri, f"removing the webhook {webhook_id}"):
        registry.client.delete_webhook(webhook_id)


def _need_server(registry: Registry) -> None:
    if is_embedded(registry.uri):
        raise RegistryError(
            f"The store {redact_uri(registry.uri)} is a file with no server that could send a webhook; "
            "the service asks it every TRANSECT_POLL_SECONDS."
        )


def _all(registry: Registry) -> Iterator[Webhook]:
    return paginate(lambda token: registry.client.list_webhooks(max_results=PAGE, page_token=token))


def _row(webhook: Webhook) -> WebhookRow:
    events = tuple(sorted(str(event) for event in webhook.events))
    return WebhookRow(webhook.webhook_id, webhook.name, webhook.url, events, webhook.status.is_active())
