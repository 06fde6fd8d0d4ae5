"""Makes ready what the MLflow server and reviews need: tables, bucket, accounts, grants, webhook, a second database.

Safe to run at every start.

Runs once before the server, in the same image and with the keys of the stores' owners, which the server does not
have. Each step waits for its service within a bound, does nothing when it was done before, and brings passwords,
grants and the webhook in line with the environment and with accounts.py.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

import boto3
import psycopg2
import sqlalchemy
from accounts import (
    EXPERIMENT,
    MODEL,
    OWNER,
    SHARED_EXPERIMENTS,
    STACK_ACCOUNTS,
    exact_grants,
)
from botocore.exceptions import BotoCoreError, ClientError
from cryptography.fernet import Fernet, InvalidToken
from minio import MinioAdmin
from minio.credentials.providers import StaticProvider
from minio.error import MinioAdminException
from mlflow.entities.webhook import WebhookEvent, WebhookEventStr, WebhookStatus
from mlflow.exceptions import MlflowException
from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore as UserStore
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as ModelStore
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore as TrackingStore
from mlflow.utils.workspace_utils import DEFAULT_WORKSPACE_NAME
from psycopg2 import sql
from urllib3.exceptions import HTTPError

# libpq reads PGHOST, PGUSER, PGPASSWORD and PGDATABASE.
DATABASE = "postgresql+psycopg2://"
ARTIFACTS = "mlflow-artifacts:/"  # where the server puts the artifacts of an experiment
ROLE = "mlflow_server"
"""The role of the server: it reads and writes rows, and can do nothing else to the database or its machine."""
REVIEW_ROLE = "transect_review"
"""The role of reviews, which reads and adds rows; `transect review migrate` grants it the tables that it makes."""
REVIEW_DATABASE = "transect"
POLICY = "transect-artifacts"
WAIT_S = 120
# By its name we find ours again; what people register has other names.
WEBHOOK = "transect-stack"
EVENTS: tuple[WebhookEventStr, ...] = ("model_version_alias.created", "model_version_alias.deleted")


def main() -> None:
    """Run the steps."""
    engine = sqlalchemy.create_engine(DATABASE)
    wait_for("PostgreSQL", lambda: engine.connect().close(), sqlalchemy.exc.OperationalError)
    upgrade_tables()
    make_bucket(os.environ["TRANSECT_BUCKET"])
    make_store_user(
        os.environ["TRANSECT_BUCKET"], os.environ["TRANSECT_S3_ACCESS_KEY"], os.environ["TRANSECT_S3_SECRET_KEY"]
    )
    make_accounts(os.environ.get("TRANSECT_MODEL_NAME") or "detector")
    make_webhook(ModelStore(DATABASE), os.environ["TRANSECT_WEBHOOK_URL"], os.environ["TRANSECT_WEBHOOK_SECRET"])
    # Last, so that the role may use every table that a step above has made.
    make_role(os.environ["TRANSECT_DATABASE_PASSWORD"])
    make_review_database(os.environ["TRANSECT_REVIEW_PASSWORD"])


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


def make_store_user(bucket: str, access_key: str, secret_key: str) -> None:
    """Make the key with which the server reads and writes `bucket`, and nothing else; forget older ones."""
    endpoint = urlsplit(os.environ["MLFLOW_S3_ENDPOINT_URL"])
    root = StaticProvider(os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"])
    admin = MinioAdmin(endpoint=endpoint.netloc, credentials=root, secure=endpoint.scheme == "https")
    try:
        admin.policy_add(POLICY, policy=bucket_policy(bucket))
        known = json.loads(admin.user_list())
        for name, user in known.items():
            if name != access_key and user.get("policyName") == POLICY:
                admin.user_remove(name)
                print("object store: an older key of the server is forgotten")
        admin.user_add(access_key, secret_key)
        if known.get(access_key, {}).get("policyName") != POLICY:
            admin.attach_policy([POLICY], user=access_key)
    except (MinioAdminException, HTTPError, ValueError) as error:
        sys.exit(
            f"The object store did not make the server's own key: {error}. MINIO_IMAGE must have MinIO's admin API."
        )
    print(f"object store: the server's key reaches the bucket {bucket} alone")


def bucket_policy(bucket: str) -> dict[str, object]:
    """The S3 policy of who reads and writes the objects of one bucket, and cannot delete or configure the bucket."""
    actions = {
        f"arn:aws:s3:::{bucket}": ["s3:GetBucketLocation", "s3:ListBucket", "s3:ListBucketMultipartUploads"],
        f"arn:aws:s3:::{bucket}/*": [
            "s3:AbortMultipartUpload",
            "s3:DeleteObject",
            "s3:GetObject",
            "s3:ListMultipartUploadParts",
            "s3:PutObject",
        ],
    }
    statements = [{"Effect": "Allow", "Action": what, "Resource": [where]} for where, what in actions.items()]
    return {"Version": "2012-10-17", "Statement": statements}


def make_role(password: str) -> None:
    """Make the role of the server, or change its password; it owns nothing, and may use every table that there is."""
    with psycopg2.connect("") as connection, connection.cursor() as cursor:
        make_login(cursor, ROLE, password)
        for statement in (
            "REVOKE ALL ON DATABASE {at} FROM PUBLIC, {role}",
            "GRANT CONNECT ON DATABASE {at} TO {role}",
            "REVOKE ALL ON SCHEMA public FROM PUBLIC, {role}",
            "GRANT USAGE ON SCHEMA public TO {role}",
            "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}",
            "GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {role}",
        ):
            cursor.execute(
                sql.SQL(statement).format(at=sql.Identifier(os.environ["PGDATABASE"]), role=sql.Identifier(ROLE))
            )
    print(f"role {ROLE}: reads and writes rows")


def make_review_database(password: str) -> None:
    """Make the database of reviews and its role, or change the role's password; the tables come later."""
    with closing(psycopg2.connect("")) as connection:
        connection.autocommit = True  # a database is made outside of a transaction
        with connection.cursor() as cursor:
            make_login(cursor, REVIEW_ROLE, password)
            at, role = sql.Identifier(REVIEW_DATABASE), sql.Identifier(REVIEW_ROLE)
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (REVIEW_DATABASE,))
            if cursor.fetchone() is None:
                cursor.execute(sql.SQL("CREATE DATABASE {}").format(at))
            cursor.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC, {}").format(at, role))
            cursor.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(at, role))
    with closing(psycopg2.connect(dbname=REVIEW_DATABASE)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(sql.SQL("REVOKE ALL ON SCHEMA public FROM PUBLIC, {}").format(role))
        cursor.execute(sql.SQL("GRANT USAGE ON SCHEMA public TO {}").format(role))
    print(f"database {REVIEW_DATABASE}: there; role {REVIEW_ROLE}: reads and adds rows of its tables")


def make_login(cursor: Any, name: str, password: str) -> None:
    """Make a role that may log in and owns nothing, or change its password."""
    if os.environ["PGUSER"] == name:
        sys.exit(f"POSTGRES_USER={name} is the name of a role of the stack; choose another.")
    role = sql.Identifier(name)
    cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (name,))
    if cursor.fetchone() is None:
        cursor.execute(sql.SQL("CREATE ROLE {}").format(role))
    options = "LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS NOINHERIT"
    cursor.execute(sql.SQL(f"ALTER ROLE {{}} WITH {options} PASSWORD %s").format(role), (password,))


def make_accounts(model: str) -> None:
    """Create the administrator, the stack's accounts and what they share, and grant each what accounts.py says."""
    users = UserStore()
    users.init_db(DATABASE)  # brings the users' tables up to date too
    admin = os.environ["MLFLOW_AUTH_ADMIN_USERNAME"]
    make_user(users, admin, os.environ["MLFLOW_AUTH_ADMIN_PASSWORD"], is_admin=True)
    for name in STACK_ACCOUNTS:
        make_user(users, name, os.environ[f"TRANSECT_{name.upper()}_PASSWORD"], is_admin=False)
    experiments = make_experiments(TrackingStore(DATABASE, ARTIFACTS))
    make_model(ModelStore(DATABASE), model)
    owned = [what for what, permission in grants_of(users, OWNER).items() if permission == "MANAGE"]
    for name, wanted in exact_grants(experiments, model, owned).items():
        bring_in_line(users, name, wanted)


def make_experiments(store: TrackingStore) -> dict[str, str]:
    """Make the experiments that no account may make for itself; their ids by name."""
    ids = {}
    for name in SHARED_EXPERIMENTS:
        found = store.get_experiment_by_name(name)
        ids[name] = str(found.experiment_id if found else store.create_experiment(name))
        print(f"experiment {name}: {'there' if found else 'made'}")
    return ids


def make_model(store: ModelStore, name: str) -> None:
    """Make the registered model that the stack serves, still without a version."""
    try:
        store.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        print(f"model {name}: there")
    else:
        print(f"model {name}: made")


def grants_of(store: UserStore, name: str) -> dict[tuple[str, str], str]:
    """What an account itself is granted on experiments and models: {(kind, id or name): permission}."""
    rows = store.list_grants(store.get_user(name).id, DEFAULT_WORKSPACE_NAME, {EXPERIMENT, MODEL})
    # MLflow adds grants on the workspace, which is all there is.
    return {
        (row.resource_type, row.resource_pattern): row.permission for row in rows if row.resource_type != "workspace"
    }


def bring_in_line(store: UserStore, name: str, wanted: Mapping[tuple[str, str], str]) -> None:
    """Grant an account what it shall have, and revoke everything else on experiments and models."""
    there = grants_of(store, name)
    for what in there.keys() - wanted.keys():
        try:
            store.revoke_user_resource_permission(name, *what)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            print(f"account {name}: has {there[what]} on {' '.join(what)} by a role that somebody made; left as it is")
    for what, permission in wanted.items():
        if there.get(what) != permission:
            store.grant_user_permission(name, *what, permission)
    changed = len(there.items() ^ wanted.items())
    print(f"account {name}: {len(wanted)} grants{', brought in line' if changed else ''}")


def make_user(store: UserStore, name: str, password: str, *, is_admin: bool) -> None:
    """Create one user, or change its password where the environment names another."""
    if not store.has_user(name):
        store.create_user(name, password, is_admin=is_admin)
        print(f"account {name}: made")
    elif not store.authenticate_user(name, password):
        store.update_user(name, password=password, is_admin=is_admin)
        print(f"account {name}: password changed")
    else:
        print(f"account {name}: there")


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
