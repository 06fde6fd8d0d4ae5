"""Makes ready what the MLflow server needs: tables, bucket, users. Safe to run at every start.

Runs once before the server, in the same image. Each step waits for its service within a bound,
does nothing when it was done before, and brings users' passwords in line with the environment.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable

import boto3
import sqlalchemy
from botocore.exceptions import BotoCoreError, ClientError
from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore as UserStore

# libpq reads PGHOST, PGUSER, PGPASSWORD and PGDATABASE.
DATABASE = "postgresql+psycopg2://"
WAIT_S = 120


def main() -> None:
    """Run the three steps."""
    engine = sqlalchemy.create_engine(DATABASE)
    wait_for("PostgreSQL", lambda: engine.connect().close(), sqlalchemy.exc.OperationalError)
    upgrade_tables()
    make_bucket(os.environ["TRANSECT_BUCKET"])
    make_users()


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


if __name__ == "__main__":
    main()
