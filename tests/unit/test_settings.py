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
