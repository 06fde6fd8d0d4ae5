"""Clearing up an MLflow on PostgreSQL and S3, as its users may, down to what frees the space for good."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from integration.servers import MlflowServer, S3Server
from toy_model import build_toy_package
from transect.registry import CleanRule, Registry, clean_runs, connect, plan_cleaning
from transect.settings import load_settings

_RULE = CleanRule.parse("failed,killed", "0d", experiment="cleaned")


@pytest.fixture
def registry(mlflow_on_postgres: MlflowServer, tmp_path: Path) -> Registry:
    values = {"TRANSECT_HOME": str(tmp_path), "TRANSECT_MODEL_NAME": "cleaned", **mlflow_on_postgres.environment()}
    return connect(load_settings(values, env_file=None))


def _log(registry: Registry, name: str, note: Path) -> str:
    run_id = str(registry.client.create_run(registry.experiment("cleaned"), run_name=name).info.run_id)
    registry.client.log_artifact(run_id, str(note), "notes")
    registry.client.set_terminated(run_id, "FAILED")
    return run_id


def test_what_goes_for_good_takes_nothing_with_it(
    registry: Registry, mlflow_on_postgres: MlflowServer, postgres_uri: str, s3_server: S3Server, tmp_path: Path
) -> None:
    note = tmp_path / "note.txt"
    note.write_text("twelve bytes")
    old, made = (_log(registry, name, note) for name in ("old", "made a version"))
    registry.register(build_toy_package(tmp_path / "package"), made, tags={})
    cleaning = plan_cleaning(registry, _RULE)
    assert ([one.run.run_id for one in cleaning.removable], cleaning.size) == ([old], 12)
    assert [(run.run_id, why) for run, why in cleaning.kept] == [(made, "it made cleaned version 1")]
    gone, stayed = clean_runs(registry, cleaning, _RULE)
    assert ([run.run_id for run in gone], stayed) == ([old], [])
    assert [key for key in s3_server.list_keys() if old in key]

    # As the documentation has it.
    command = [sys.executable, "-m", "mlflow", "gc", "--backend-store-uri", postgres_uri, "--run-ids", old]
    environment = {**os.environ, **mlflow_on_postgres.environment()}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr
    assert f"Run with ID {old} has been permanently deleted." in ended.stdout + ended.stderr
    keys = s3_server.list_keys()
    assert not [key for key in keys if old in key]
    assert [key for key in keys if made in key and key.endswith("model.onnx")]
    assert registry.fetch(registry.resolve("candidate")).is_dir()
