from pathlib import Path

import pytest

from transect.errors import SettingsError
from transect.settings import load_settings


def test_defaults_need_no_environment() -> None:
    settings = load_settings({}, env_file=None)
    assert settings.model_alias == "production"
    assert settings.store_uri.startswith("sqlite:////")
    assert settings.store_uri.endswith("/runs/mlflow.db")


def test_the_environment_wins_over_the_env_file(tmp_path: Path) -> None:
    env_file = tmp_path / ".env"
    env_file.write_text("TRANSECT_PORT=8001\nTRANSECT_HOST=0.0.0.0\n")
    settings = load_settings({"TRANSECT_PORT": "8002"}, env_file)
    assert (settings.port, settings.host) == (8002, "0.0.0.0")


def test_an_empty_value_is_the_default() -> None:
    assert load_settings({"TRANSECT_CONF": ""}, None).conf is None


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("TRANSECT_PROT", "1", "TRANSECT_PORT"),
        ("TRANSECT_PORT", "http", "TRANSECT_PORT='http'"),
        ("TRANSECT_PORT", "70000", "TRANSECT_PORT='70000'"),
        ("TRANSECT_TILE", "32", "at least 64"),
        ("TRANSECT_BACKEND", "tensorflow", "openvino"),
        ("TRANSECT_CONF", "1.5", "TRANSECT_CONF"),
        ("TRANSECT_DEVICE", "tpu", "TRANSECT_DEVICE"),
    ],
)
def test_a_bad_variable_is_one_line_that_names_it(name: str, value: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings({name: value}, None)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_password_is_not_shown() -> None:
    settings = load_settings({"MLFLOW_TRACKING_PASSWORD": "kudu"}, None)
    assert "kudu" not in repr(settings)


@pytest.mark.parametrize("value", ["auto", "off", "512"])
def test_tile(value: str) -> None:
    assert str(load_settings({"TRANSECT_TILE": value}, None).tile) == value


@pytest.mark.parametrize(
    "name", ["wild/life", "a:b", "a@b", "a b", "..", ".hidden", "a#b", "a?b", "a\\b", "a'b", "n" * 201, "斑" * 67]
)
def test_a_model_name_that_cannot_be_registered_is_refused_before_anything(name: str) -> None:
    with pytest.raises(SettingsError, match=r"TRANSECT_MODEL_NAME=.* is not usable: the name of a model has letters"):
        load_settings({"TRANSECT_MODEL_NAME": name}, env_file=None)


@pytest.mark.parametrize("name", ["detector", "wild-life_2.1", "斑马", "गाय", "mâle"])
def test_a_model_name_of_any_script_is_taken(name: str) -> None:
    assert load_settings({"TRANSECT_MODEL_NAME": name}, env_file=None).model_name == name


@pytest.mark.parametrize("alias", ["latest", "v3", "12", "a b", "a/b", "a@b"])
def test_an_alias_that_mlflow_keeps_for_itself_is_refused(alias: str) -> None:
    with pytest.raises(SettingsError, match=r"TRANSECT_MODEL_ALIAS=.* is not usable: an alias has"):
        load_settings({"TRANSECT_MODEL_ALIAS": alias}, env_file=None)
