"""Makes ready what the MLflow server needs: tables, bucket, users, webhook. Safe to run at every start.

Runs once before the server, in the same image. Each step waits for its service within a bound,
does nothing when it was done before, and brings passwords and the webhook in line with the environment.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable

import boto3
import sqlalchemy
from botocore.exceptions import BotoCoreError, ClientError
from cryptography.fernet import Fernet, InvalidToken
from mlflow.entities.webhook import WebhookEvent, WebhookStatus
from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore as UserStore
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as ModelStore

# libpq reads PGHOST, PGUSER, PGPASSWORD and PGDATABASE.
DATABASE = "postgresql+psycopg2://"
WAIT_S = 120
# By its name we find ours again; what people register has other names.
WEBHOOK = "transect-stack"
EVENTS = ("model_version_alias.created", "model_version_alias.deleted")


def main() -> None:
    """Run the steps."""
    engine = sqlalchemy.create_engine(DATABASE)
    wait_for("PostgreSQL", lambda: engine.connect().close(), sqlalchemy.exc.OperationalError)
    upgrade_tables()
    make_bucket(os.environ["TRANSECT_BUCKET"])
    make_users()
    make_webhook(ModelStore(DATABASE), os.environ["TRANSECT_WEBHOOK_URL"], os.environ["TRANSECT_WEBHOOK_SECRET"])


def wait_for(service: str, attempt: Callable[[], object], *errors: type[Exception]) -> None:
    """Try once a second until `attempt` succeeds; after WAIT_S the last error ends the program."""
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            attempt()
        except errors as error:
            if time.monotonic() > deadline:
                sys.exit(f"{service} did not answer within {WAIT_S} s: {error}")
            time.sleep(1)
        else:
            return


def upgrade_tables() -> None:
    """Bring the tracking tables to this MLflow's version; an empty database gets them all."""
    subprocess.run(["mlflow", "db", "upgrade", DATABASE], check=True)
    print("tables: up to date")


def make_bucket(name: str) -> None:
    """Create the bucket for artifacts if it is not there."""
    s3 = boto3.client("s3", endpoint_url=os.environ["MLFLOW_S3_ENDPOINT_URL"])

    def attempt() -> None:
        try:
            s3.head_bucket(Bucket=name)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
                raise
            s3.create_bucket(Bucket=name)

    wait_for("The object store", attempt, BotoCoreError, ClientError)
    print(f"bucket {name}: there")


def make_users() -> None:
    """Create the administrator and the stack's own users, or bring their passwords in line."""
    store = UserStore()
    store.init_db(DATABASE)  # brings the users' tables up to date too
    admin = os.environ["MLFLOW_AUTH_ADMIN_USERNAME"]
    make_user(store, admin, os.environ["MLFLOW_AUTH_ADMIN_PASSWORD"], is_admin=True)
    for name in ("trainer", "detector", "census"):
        make_user(store, name, os.environ[f"TRANSECT_{name.upper()}_PASSWORD"], is_admin=False)


def make_user(store: UserStore, name: str, password: str, *, is_admin: bool) -> None:
    """Create one user, or change its password where the environment names another."""
    if not store.has_user(name):
        store.create_user(name, password, is_admin=is_admin)
        print(f"user {name}: made")
    elif not store.authenticate_user(name, password):
        store.update_user(name, password=password, is_admin=is_admin)
        print(f"user {name}: password changed")
    else:
        print(f"user {name}: there")


def make_webhook(store: ModelStore, url: str, secret: str) -> None:
    """Let the server tell the detector at once that an alias moved, signed with `secret`."""
    forget_unreadable_webhooks(store)
    events = [WebhookEvent.from_str(name) for name in EVENTS]
    known = next((webhook for webhook in store.list_webhooks(max_results=1000) if webhook.name == WEBHOOK), None)
    if known is None:
        store.create_webhook(WEBHOOK, url, events, "An alias moved", secret)
        print(f"webhook to {url}: made")
    elif (known.url, known.secret, set(known.events), known.status) != (url, secret, set(events), WebhookStatus.ACTIVE):
        store.update_webhook(known.webhook_id, url=url, events=events, secret=secret, status=WebhookStatus.ACTIVE)
        print(f"webhook to {url}: brought in line")
    else:
        print(f"webhook to {url}: there")


def forget_unreadable_webhooks(store: ModelStore) -> None:
    """Delete the webhooks that were made under another MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY, and name them.

    One such webhook keeps the server from listing, and so from using, all the others.
    """
    cipher = Fernet(os.environ["MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY"])
    with store.engine.begin() as connection:
        query = "SELECT webhook_id, name, url, secret FROM webhooks WHERE secret IS NOT NULL"
        rows = connection.execute(sqlalchemy.text(query)).all()
        for webhook_id, name, url, secret in rows:
            try:
                cipher.decrypt(secret.encode())
            except InvalidToken:
                for table in ("webhook_events", "webhooks"):
                    delete = sqlalchemy.text(f"DELETE FROM {table} WHERE webhook_id = :id")  # noqa: S608 - two constants
                    connection.execute(delete, {"id": webhook_id})
                print(f"webhook {name} to {url}: deleted, its secret was encrypted with another key; register it again")


if __name__ == "__main__":
    main()
