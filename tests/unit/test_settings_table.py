"""One table of variables: the code, .env.example, docs/environment.md and compose.yaml agree."""

import re
from pathlib import Path

import pytest
import yaml

from transect.settings import (
    STACK_SECRETS,
    STACK_VARIABLES,
    Settings,
    StackVariable,
    as_env_example,
    as_markdown,
    load_settings,
)

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = (ROOT / "compose.yaml").read_text(encoding="utf-8") + (ROOT / "compose.gpu.yaml").read_text(encoding="utf-8")
# compose.yaml sets these itself, one value a service.
SET_BY_COMPOSE = {
    "TRANSECT_HOME",
    "TRANSECT_HOST",
    "TRANSECT_PORT",
    "MLFLOW_TRACKING_URI",
    "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD",
    "TRANSECT_WEBHOOK_SECRET",
    "TRANSECT_TOKENS",
    "TRANSECT_CENSUS_LOG",
    "TRANSECT_ALLOWED_HOSTS",
    "TRANSECT_DETECTOR_PEERS",
    "TRANSECT_SWEEP_STORE",
    "TRANSECT_SWEEP_STALE_SECONDS",
    "TRANSECT_REVIEW_DATABASE",
}
# Keys of the stores of photos: the census alone reads these.
CENSUS_ALONE = {
    str(field.alias) for field in Settings.model_fields.values() if not str(field.alias).startswith("TRANSECT_")
} - {
    "MLFLOW_TRACKING_URI",
    "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD",
}
# The program behind make turns it into a list, which Compose's own variables cannot hold.
READ_BY_THE_PROGRAM = {"TRANSECT_GPUS"}


def test_the_example_file_is_what_the_settings_print() -> None:
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    assert text == as_env_example(), "run: transect settings --env > .env.example"


def test_the_docs_hold_the_table_that_the_settings_print() -> None:
    text = (ROOT / "docs" / "environment.md").read_text(encoding="utf-8")
    assert as_markdown() in text, "put the output of `transect settings --markdown` into docs/environment.md"


def test_the_example_file_can_be_used_as_it_is() -> None:
    assert load_settings({}, ROOT / ".env.example") == load_settings({}, None)


def test_compose_hands_every_setting_to_the_programs() -> None:
    shared = yaml.safe_load(COMPOSE.split("\nservices:")[0])["x-settings"]
    own = {str(field.alias) for field in Settings.model_fields.values()}
    assert own - SET_BY_COMPOSE - CENSUS_ALONE <= set(shared)
    services = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]
    assert {name for name, one in services.items() if CENSUS_ALONE & set(one.get("environment", ()))} >= {"census"}
    assert set(services["census"]["environment"]) >= CENSUS_ALONE
    for name in ("detector", "trainer"):
        assert not CENSUS_ALONE & set(services[name].get("environment", ()))
    assert {name for name in shared if name.startswith("TRANSECT_")} <= own


def test_compose_reads_no_variable_that_is_not_in_the_table() -> None:
    known = {str(field.alias) for field in Settings.model_fields.values()} | {v.name for v in STACK_VARIABLES}
    read = set(re.findall(r"\$\{([A-Z0-9_]+)", COMPOSE))
    assert read <= known


@pytest.mark.parametrize("name", STACK_SECRETS)
def test_compose_stops_without_a_secret_and_names_it(name: str) -> None:
    assert f"${{{name}:?" in COMPOSE
    assert f"${{{name}:-" not in COMPOSE


@pytest.mark.parametrize("name", READ_BY_THE_PROGRAM)
def test_what_the_program_behind_make_reads_is_in_the_table_and_read(name: str) -> None:
    assert name in {variable.name for variable in STACK_VARIABLES}
    assert f'setting("{name}"' in (ROOT / "docker" / "stack" / "compose.py").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "variable",
    [v for v in STACK_VARIABLES if not v.secret and v.name not in READ_BY_THE_PROGRAM],
    ids=lambda variable: variable.name,
)
def test_compose_uses_each_variable_of_the_stack(variable: StackVariable) -> None:
    name, default = variable.name, variable.default
    if default:
        assert f"${{{name}:-{default}}}" in COMPOSE
    else:
        assert re.search(rf"\b{name}:", COMPOSE)
