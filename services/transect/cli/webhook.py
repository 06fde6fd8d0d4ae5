"""`transect webhook`: MLflow's webhooks that notify a detection service when an alias moves."""

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from transect.settings import load_settings

app = typer.Typer(help="MLflow's webhooks to a detection service: list, register, remove.", no_args_is_help=True)


@app.command("list")
def list_all() -> None:
    """List the webhooks of the MLflow server."""
    from transect.registry import connect, list_webhooks

    rows = list_webhooks(connect(load_settings()))
    if not rows:
        print("The MLflow server has no webhook; make one: transect webhook register http://HOST:8000/v1/hooks/mlflow")
        return
    table = Table("id", "name", "address", "events", "state")
    for row in rows:
        table.add_row(row.id, row.name, row.url, ", ".join(row.events), "active" if row.active else "disabled")
    Console().print(table)


@app.command()
def register(
    url: Annotated[
        str, typer.Argument(help="The service as MLflow reaches it, such as http://detector:8000/v1/hooks/mlflow.")
    ],
) -> None:
    """Register the service at URL with the secret TRANSECT_WEBHOOK_SECRET, and send it a test message."""
    from transect.registry import connect, register_webhook

    done = register_webhook(connect(load_settings()), url)
    print(f"Webhook {done.webhook.id} to {url}: {'created' if done.made else 'updated'}.")
    if done.trouble is None:
        print("The service accepted MLflow's test message. The server may need a minute to use a new webhook.")
    else:
        print(f"The service did not accept MLflow's test message: {' '.join(done.trouble.split())}")


@app.command()
def remove(webhook_id: Annotated[str, typer.Argument(help="Its id, as `transect webhook list` shows it.")]) -> None:
    """Remove a webhook."""
    from transect.registry import connect, remove_webhook

    remove_webhook(connect(load_settings()), webhook_id)
    print(f"Webhook {webhook_id} is removed.")
