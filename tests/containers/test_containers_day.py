"""The day that the stack must serve, on the real thing: up, train, promote, detect, census, rollback, down, up.

The tests stand in the order of the day, and each asks for the part of it that it looks at.
"""

import csv
import getpass
import os
import platform
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from containers import flood
from containers.running import EPOCHS, TINY, Promoted, Stack, Trained, Unready, docker

SERVICES = ("postgres", "minio", "mlflow", "detector")


def test_up_leaves_everything_healthy(stack: Stack) -> None:
    states = {c["Config"]["Labels"]["com.docker.compose.service"]: c["State"] for c in stack.containers()}
    assert states.pop("mlflow-init")["ExitCode"] == 0
    healthy = {name: state["Health"]["Status"] for name, state in states.items()}
    assert healthy == dict.fromkeys(SERVICES, "healthy")


def test_up_writes_private_secrets(stack: Stack) -> None:
    assert (stack.folder / ".env").stat().st_mode & 0o077 == 0
    assert len(stack.secret("POSTGRES_PASSWORD")) >= 24


@pytest.mark.parametrize("service", SERVICES)
def test_nothing_runs_as_root(stack: Stack, service: str) -> None:
    # The first process, as the kernel sees it: a shell that is let in later proves nothing.
    status = stack.compose("exec", "-T", service, "cat", "/proc/1/status")
    lines = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    assert "0" not in lines["Uid"].split()
    assert int(lines["CapEff"], 16) == 0
    assert lines["NoNewPrivs"].strip() == "1"


def test_mlflow_asks_for_a_password(stack: Stack) -> None:
    search = f"{stack.url('mlflow')}/api/2.0/mlflow/experiments/search"
    assert httpx.post(search, json={"max_results": 1}).status_code == 401
    user = ("trainer", stack.secret("TRANSECT_TRAINER_PASSWORD"))
    assert httpx.post(search, json={"max_results": 1}, auth=user).status_code == 200


def test_a_detector_without_a_model_is_healthy_but_not_ready_and_says_what_to_do(unready: Unready) -> None:
    assert unready.state == "healthy"
    assert unready.health.status_code == 200
    for answer in (unready.ready, unready.detect):
        assert answer.status_code == 503
        assert answer.headers["Content-Type"].startswith("application/problem+json")
        assert "make train" in answer.json()["detail"]


def test_a_killed_training_is_delivered_when_mlflow_is_back(trained: Trained) -> None:
    assert "Running in the stack" in trained.killed
    assert "Registered" not in trained.killed
    assert ": delivered " in trained.synced
    assert trained.told == "KILLED"


def test_a_killed_training_goes_on_in_its_own_run_and_no_epoch_is_lost(stack: Stack, trained: Trained) -> None:
    assert "Registered detector version 1" in trained.resumed
    assert stack.sql("select status from runs") == "FINISHED"
    epochs = "\n".join(f"{epoch}|1" for epoch in range(1, EPOCHS + 1))
    for name in ("train/loss", "val/loss", "lr/pg0", "metrics/mAP50-95"):
        query = f"select step, count(*) from metrics where key = '{name}' group by step order by step"
        assert stack.sql(query) == epochs, name
    assert int(stack.sql("select count(*) from params")) > 50


@pytest.mark.usefixtures("trained")
def test_a_run_names_who_started_it_where_and_from_which_image_and_source(stack: Stack) -> None:
    tags = dict(line.split("|", 1) for line in stack.sql("select key, value from tags").splitlines() if "|" in line)
    assert tags["mlflow.user"] == getpass.getuser()
    assert tags["transect.host"] == platform.node()
    image = docker("image", "inspect", "--format", "{{.Id}}", "transect-trainer:local").strip()
    assert tags["transect.container_image"] == f"transect-trainer:local@{image}"
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=stack.folder, check=True, capture_output=True, text=True)
    assert tags["mlflow.source.git.commit"] == commit.stdout.strip()
    assert tags["transect.git_dirty"] == "true"
    # What the commit does not say, and alone that.
    (key,) = [key for key in stack.objects() if key.endswith("source/changes.patch")]
    assert re.findall(r"(?m)^\+\+\+ b/(.*)$", stack.object(key)) == ["configs/promotion.yaml"]


@pytest.mark.usefixtures("trained")
def test_training_leaves_its_files_in_minio(stack: Stack) -> None:
    names = {Path(key).name for key in stack.objects()}
    assert {"model.onnx", "weights.pt", "package.json", "MLmodel"} <= names


@pytest.mark.usefixtures("trained")
def test_the_new_version_is_the_candidate_and_nothing_is_served_yet(stack: Stack) -> None:
    assert stack.alias("candidate") == "1"
    assert httpx.get(f"{stack.url('detector')}/readyz").status_code == 503


@pytest.mark.usefixtures("trained")
def test_the_detector_may_read_and_not_move_an_alias(stack: Stack) -> None:
    answer = httpx.post(
        f"{stack.url('mlflow')}/api/2.0/mlflow/registered-models/alias",
        json={"name": "detector", "alias": "production", "version": "1"},
        auth=("detector", stack.secret("TRANSECT_DETECTOR_PASSWORD")),
    )
    assert answer.status_code == 403


def test_the_running_detector_takes_over_what_is_promoted(stack: Stack, promoted: Promoted) -> None:
    assert "serves detector version 1" in promoted.said
    assert stack.alias("production") == "1"
    # Not restarted: the same container since the same moment.
    assert promoted.after["Id"] == promoted.before["Id"]
    assert promoted.after["State"]["StartedAt"] == promoted.before["State"]["StartedAt"]
    assert promoted.answer.status_code == 200, promoted.answer.text
    result = promoted.answer.json()
    assert result["model"]["name"] == "detector"
    assert result["model"]["version"] == "1"
    assert (result["width"], result["height"], result["failure"]) == (160, 160, None)


def test_a_flooded_detector_stays_in_one_gibibyte_and_answers_right(
    stack: Stack, promoted: Promoted, training_set: Path
) -> None:
    image = next((training_set.parent / "images" / "test").glob("*.jpg"))
    before = stack.container("detector")
    assert before["HostConfig"]["Memory"] == 1 << 30
    port = int(stack.environ["TRANSECT_DETECTOR_PORT"])
    expected = promoted.answer.json()["detections"]
    with flood.flooding(port) as attacks:
        answers = [stack.detect(image) for _ in range(20)]
        told = attacks.wait(120)
        crowd = attacks.connect(1000)
    # Busy is an honest answer; another number of animals is none. Here all clients have one address.
    assert {answer.status_code for answer in answers} <= {200, 429, 503}, told
    assert all(answer.json()["detections"] == expected for answer in answers if answer.status_code == 200)
    stack.wait_until_ready()
    after = stack.detect(image)
    assert after.json()["detections"] == expected
    state = stack.container("detector")
    assert (state["RestartCount"], state["State"]["OOMKilled"]) == (before["RestartCount"], False), told
    assert state["State"]["StartedAt"] == before["State"]["StartedAt"], told
    # Each attack was met by the limit that is for it, not by an end of the process.
    assert told["head"] <= {431, None}
    assert 408 in told["slow heads"], told
    assert crowd >= {429, 408}
    # 422: too many tiles for a model that small.
    assert told["deep picture"] <= {413, 422, 503}
    assert told["picture that fits"] <= {200, 503}
    assert told["numbers"] <= {413, 503}


@pytest.mark.usefixtures("promoted")
def test_mlflow_told_the_detector_that_the_alias_moved(stack: Stack) -> None:
    accepted = re.compile(r'^transect_webhooks_total\{outcome="accepted"\} [1-9]', re.MULTILINE)
    deadline = time.monotonic() + 60
    while not accepted.search(text := httpx.get(f"{stack.url('detector')}/metrics", headers=stack.token_header()).text):
        assert time.monotonic() < deadline, stack.compose("logs", "--tail", "50", "mlflow-init", "mlflow")
        time.sleep(0.5)
    assert 'transect_webhooks_total{outcome="refused"} 0.0' in text


@pytest.mark.usefixtures("promoted")
def test_a_census_runs_in_its_container(stack: Stack, survey: Path) -> None:
    done = stack.make("census", SURVEY=str(survey))
    assert "Running in the stack" in done.stdout
    (run,) = (path.parent for path in (stack.folder / "results" / "tiny").rglob("manifest.json"))
    assert {"detections.parquet", "animals.geojson", "report.html", "estimate.json"} <= {p.name for p in run.iterdir()}
    with (run / "failures.csv").open(encoding="utf-8", newline="") as stream:
        failures = list(csv.DictReader(stream))
    assert [Path(row["file"]).name for row in failures] == ["broken.jpg"]
    assert (
        stack.sql("select count(*) from runs r join experiments e using (experiment_id) where e.name = 'census'") == "1"
    )
    # Everybody with an account reads what is logged.
    (run_id,) = stack.sql(
        "select run_uuid from runs r join experiments e using (experiment_id) where e.name = 'census'"
    ).split()
    logged = {key.rpartition("/")[2] for key in stack.objects() if run_id in key}
    assert logged == {"counts.csv", "estimate.csv", "estimate.json", "manifest.json", "transects.csv"}
    # The results belong to whom they were made for; root's are the container's user's.
    assert (run / "report.html").stat().st_uid == (os.getuid() or 10001)


@pytest.mark.usefixtures("promoted")
def test_who_trains_and_who_serves_sees_no_census(stack: Stack) -> None:
    api = f"{stack.url('mlflow')}/api/2.0/mlflow"

    def ask(account: str, method: str, path: str, **more: Any) -> httpx.Response:
        password = stack.secret(f"TRANSECT_{account.upper()}_PASSWORD")
        return httpx.request(method, f"{api}{path}", auth=(account, password), timeout=60, **more)

    found = ask("census", "GET", "/experiments/get-by-name", params={"experiment_name": "census"})
    experiment = found.raise_for_status().json()["experiment"]["experiment_id"]
    runs = (
        ask("census", "POST", "/runs/search", json={"experiment_ids": [experiment]}).raise_for_status().json()["runs"]
    )
    file = f"-artifacts/artifacts/{experiment}/{runs[0]['info']['run_id']}/artifacts/counts.csv"
    assert ask("census", "GET", file).status_code == 200
    for account in ("trainer", "detector"):
        assert ask(account, "GET", file).status_code == 403
        assert ask(account, "GET", "/runs/get", params={"run_id": runs[0]["info"]["run_id"]}).status_code == 403
        assert "runs" not in ask(account, "POST", "/runs/search", json={"experiment_ids": [experiment]}).json()
        made = ask(account, "POST", "/experiments/create", json={"name": "x", "artifact_location": "s3://mlflow/1"})
        assert made.status_code == 403
    assert ask("detector", "POST", "/registered-models/create", json={"name": "squatted"}).status_code == 403
    assert "MLflow does not show them to this account" in stack.compose(
        "run", "--rm", "--no-TTY", "trainer", "transect", "models", "show", "1"
    )


def test_the_server_has_no_key_of_the_stores_owners(stack: Stack) -> None:
    values = stack.compose("exec", "-T", "mlflow", "env")
    for name in ("POSTGRES_PASSWORD", "MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD"):
        assert stack.secret(name) not in values, name
    assert stack.sql("select rolsuper, rolcreaterole, rolcreatedb from pg_roles where rolname = 'mlflow_server'") == (
        "f|f|f"
    )
    tried = "\n".join(
        [
            "import psycopg2",
            "for text in ('create table a (b int)', 'drop table runs', \"copy runs to program 'id'\",",
            "             'select rolpassword from pg_authid', 'create role a superuser'):",
            "    try: psycopg2.connect('').cursor().execute(text); print('done', text)",
            "    except psycopg2.errors.InsufficientPrivilege: print('refused')",
        ]
    )
    assert stack.compose("exec", "-T", "mlflow", "python", "-c", tried).split() == ["refused"] * 5


def test_the_servers_key_opens_one_bucket_and_nothing_else(stack: Stack) -> None:
    owner = {"AWS_ACCESS_KEY_ID": "MINIO_ROOT_USER", "AWS_SECRET_ACCESS_KEY": "MINIO_ROOT_PASSWORD"}
    told = [part for name, secret in owner.items() for part in ("-e", f"{name}={stack.secret(secret)}")]
    make = "import boto3, os; boto3.client('s3', endpoint_url=os.environ['MLFLOW_S3_ENDPOINT_URL'])"
    stack.compose("exec", "-T", *told, "mlflow", "python", "-c", f"{make}.create_bucket(Bucket='positions')")
    tried = "\n".join(
        [
            "import boto3, os, botocore.exceptions, json",
            "from minio import MinioAdmin",
            "from minio.credentials.providers import EnvAWSProvider",
            "from minio.error import MinioAdminException",
            "s3 = boto3.client('s3', endpoint_url=os.environ['MLFLOW_S3_ENDPOINT_URL'])",
            "mine = os.environ['TRANSECT_BUCKET']",
            "s3.put_object(Bucket=mine, Key='probe', Body=b'x'); s3.delete_object(Bucket=mine, Key='probe')",
            "admin = MinioAdmin(endpoint='minio:9000', credentials=EnvAWSProvider(), secure=False)",
            "for ask in (lambda: s3.list_objects_v2(Bucket='positions'),",
            "            lambda: s3.put_object(Bucket='positions', Key='a', Body=b'x'),",
            "            lambda: s3.create_bucket(Bucket='another'), lambda: s3.delete_bucket(Bucket=mine),",
            "            lambda: s3.put_bucket_policy(Bucket=mine, Policy=json.dumps({})),",
            "            admin.user_list, lambda: admin.user_add('another', 'a-secret-of-its-own')):",
            "    try: print('done', ask())",
            "    except (botocore.exceptions.ClientError, MinioAdminException) as error:",
            "        print('refused' if 'AccessDenied' in str(error) else error)",
            "print('buckets', [item['Name'] for item in s3.list_buckets()['Buckets']])",
        ]
    )
    said = stack.compose("exec", "-T", "mlflow", "python", "-c", tried).splitlines()
    assert said == ["refused"] * 7 + ["buckets ['mlflow']"]


@pytest.mark.usefixtures("promoted")
def test_a_second_version_is_promoted_and_rolled_back(stack: Stack, training_set: Path) -> None:
    stack.make("train", MODEL="yolo11n", DATA=str(training_set), EPOCHS="1", ARGS=f"{TINY} seed=1")
    # A container knows the source that it was made from, so that it can tell whether a run can be repeated in it.
    rehearsal = stack.make("reproduce", RUN="@candidate", ARGS="--dry-run").stdout
    assert "Source, versions, machine and starting weights are as they were." in rehearsal
    (stack.folder / "configs" / "strict.yaml").write_text("min_gain: 0.99\n", encoding="utf-8")
    strict = "--gate configs/strict.yaml"
    # DATA is not given: the folder of the training is remembered.
    assert "version 2 was not promoted" in stack.refused("promote", ARGS=strict)
    assert stack.alias("production") == "1"
    forced = stack.make("promote", REASON="the rains came early", ARGS=f"{strict} --force")
    assert "serves detector version 2" in forced.stdout
    assert stack.alias("previous") == "1"
    assert "serves detector version 1" in stack.make("rollback", REASON="it counts termite mounds").stdout
    assert stack.alias("production") == "1"
    tags = stack.version_tags("2")
    me = getpass.getuser()
    assert (tags["transect.verdict"], tags["transect.forced_by"]) == ("forced", me)
    assert tags["transect.promotion_reason"] == "the rains came early"
    assert (tags["transect.rolled_back_by"], tags["transect.rollback_reason"]) == (me, "it counts termite mounds")
    # Each of these decisions, and the first promotion, is a run.
    decisions = "select count(*) from runs r join experiments e using (experiment_id) where e.name = 'promotion'"
    assert stack.sql(decisions) == "4"


@pytest.mark.usefixtures("promoted")
def test_the_detector_starts_from_its_cache_while_the_rest_is_down(stack: Stack, training_set: Path) -> None:
    image = next((training_set.parent / "images" / "test").glob("*.jpg"))
    stack.compose("stop", "mlflow", "minio", "postgres")
    try:
        stack.compose("restart", "detector")
        stack.wait_until_ready()
        assert stack.detect(image).json()["model"]["version"] == "1"
    finally:
        stack.make("up")


@pytest.mark.usefixtures("promoted")
def test_down_and_up_keeps_everything(stack: Stack, training_set: Path) -> None:
    counts = "select (select count(*) from runs), (select count(*) from model_versions), (select count(*) from users)"
    before = stack.sql(counts), sorted(stack.objects()), stack.alias("production")
    stack.make("down")
    assert stack.compose("ps", "--all", "--quiet") == ""
    stack.make("up")
    assert (stack.sql(counts), sorted(stack.objects()), stack.alias("production")) == before
    stack.wait_until_ready()
    image = next((training_set.parent / "images" / "test").glob("*.jpg"))
    assert stack.detect(image).json()["model"]["version"] == "1"
