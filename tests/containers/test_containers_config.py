"""What compose.yaml says, before anything is started."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import compose
import pytest

from transect.settings import STACK_SECRETS

# Who gets the GPUs.
COMPUTING = ("detector", "census", "trainer")
GPU_PAGE = Path(__file__).resolve().parents[2] / "docs" / "operations-gpus.md"


def config(folder: Path, *files: str, **variables: str) -> subprocess.CompletedProcess[str]:
    options = [part for name in files for part in ("--file", name)]
    command = ["docker", "compose", *options, "--env-file", os.devnull, "--profile", "*", "config", "--format", "json"]
    environ = {**os.environ, **variables}
    return subprocess.run(command, cwd=folder, env=environ, check=False, capture_output=True, text=True, timeout=60)


@pytest.fixture(scope="module")
def services(checkout: Path) -> dict[str, Any]:
    done = config(checkout, "compose.yaml", **dict.fromkeys(STACK_SECRETS, "k2J-8fhw_Q1x9d7Z"))
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout)["services"])


@pytest.mark.parametrize("missing", STACK_SECRETS)
def test_no_secret_has_a_default(checkout: Path, missing: str) -> None:
    rest = {name: "k2J-8fhw_Q1x9d7Z" for name in STACK_SECRETS if name != missing}
    done = config(checkout, "compose.yaml", **rest)
    assert done.returncode != 0
    assert missing in done.stderr
    assert "make up" in done.stderr


def test_ports_are_published_on_this_machine_alone(services: dict[str, Any]) -> None:
    published = {name: service["ports"] for name, service in services.items() if service.get("ports")}
    assert set(published) == {"mlflow", "detector", "prometheus", "grafana"}
    assert {port["host_ip"] for ports in published.values() for port in ports} == {"127.0.0.1"}


def test_every_service_is_hardened(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "privileged" not in service, name


def test_nothing_is_without_limits_and_the_stores_are_the_last_to_go(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert int(service["mem_limit"]) >= 1 << 30, name
        assert service["pids_limit"] == 1024, name
        assert service["ulimits"]["nofile"] == 20000, name
    scores = {name: service.get("oom_score_adj", 0) for name, service in services.items()}
    assert {name for name, score in scores.items() if score <= 0} == {"postgres", "minio"}
    assert scores["detector"] > scores["mlflow"]


def test_only_mlflow_reaches_the_stores(services: dict[str, Any]) -> None:
    inside = {name for name, service in services.items() if "stores" in service["networks"]}
    assert inside == {"postgres", "minio", "mlflow-init", "mlflow"}


def test_a_census_reaches_the_database_of_reviews_with_a_role_of_its_own(checkout: Path) -> None:
    services = with_distinct_secrets(checkout)
    inside = {name for name, service in services.items() if "reviews" in service["networks"]}
    assert inside == {"postgres", "review-init", "census"}
    told = {name: service["environment"] for name, service in services.items() if "environment" in service}
    knows = {name for name, values in told.items() if "secret-of-TRANSECT_REVIEW_PASSWORD" in values.values()}
    assert knows == {"mlflow-init", "census"}
    assert told["census"]["PGUSER"] == "transect_review"
    owners = {name for name, values in told.items() if "secret-of-POSTGRES_PASSWORD" in values.values()}
    assert owners == {"postgres", "mlflow-init", "review-init"}
    assert services["review-init"]["command"] == ["transect", "review", "migrate"]
    assert services["review-init"]["image"] == services["census"]["image"]


def with_distinct_secrets(checkout: Path) -> dict[str, Any]:
    """The services, told secrets that name themselves."""
    done = config(checkout, "compose.yaml", **{name: f"secret-of-{name}" for name in STACK_SECRETS})
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout)["services"])


def test_the_detector_holds_its_own_secrets_alone(services: dict[str, Any]) -> None:
    environment = services["detector"]["environment"]
    assert environment["MLFLOW_TRACKING_USERNAME"] == "detector"
    assert set(STACK_SECRETS) & set(environment) == {"TRANSECT_WEBHOOK_SECRET", "TRANSECT_TOKENS"}


def test_the_webhook_goes_from_mlflow_to_the_detector_with_one_secret(services: dict[str, Any]) -> None:
    init, server, detector = (services[name]["environment"] for name in ("mlflow-init", "mlflow", "detector"))
    assert init["TRANSECT_WEBHOOK_SECRET"] == detector["TRANSECT_WEBHOOK_SECRET"]
    assert init["TRANSECT_WEBHOOK_URL"] == f"http://detector:{detector['TRANSECT_PORT']}/v1/hooks/mlflow"
    assert {name for name in services if "services" in services[name]["networks"]} >= {"mlflow", "detector"}
    for name in ("SECRET_ENCRYPTION_KEY", "ALLOWED_SCHEMES", "ALLOW_PRIVATE_IPS"):
        assert init[f"MLFLOW_WEBHOOK_{name}"] == server[f"MLFLOW_WEBHOOK_{name}"]
    for name in ("trainer", "census"):
        assert "TRANSECT_WEBHOOK_SECRET" not in services[name]["environment"]


@pytest.fixture(scope="module")
def with_gpus(checkout: Path) -> dict[str, Any]:
    return with_gpus_and(checkout)


def with_gpus_and(checkout: Path, **variables: str) -> dict[str, Any]:
    """The services as `GPU=1` starts them."""
    secrets = dict.fromkeys(STACK_SECRETS, "k2J-8fhw_Q1x9d7Z")
    done = config(checkout, "compose.yaml", "compose.gpu.yaml", **secrets, **variables)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout)["services"])


def test_gpus_are_reserved_for_those_that_compute_alone(with_gpus: dict[str, Any]) -> None:
    assert {name for name, service in with_gpus.items() if "devices" in str(service.get("deploy"))} == set(COMPUTING)
    for name in COMPUTING:
        # -1 is all.
        assert _devices(with_gpus[name]) == [{"driver": "nvidia", "count": -1, "capabilities": ["gpu"]}]
        assert with_gpus[name]["deploy"]["resources"].keys() == {"reservations"}


def test_the_file_with_the_gpus_changes_what_a_gpu_needs_alone(
    services: dict[str, Any], with_gpus: dict[str, Any]
) -> None:
    changed = {
        name: {key for key in service | services[name] if service.get(key) != services[name].get(key)}
        for name, service in with_gpus.items()
    }
    assert {name: keys for name, keys in changed.items() if keys} == {
        "detector": {"deploy", "environment", "image", "build"},
        "census": {"deploy", "environment", "image", "build"},
        "review-init": {"image", "build"},
        "trainer": {"deploy", "environment", "shm_size", "ulimits"},
    }
    # So they are as closed as without: the read-only root, no capabilities, the same mounts, and no device by its path.
    for name in COMPUTING:
        service = with_gpus[name]
        assert (service["read_only"], service["cap_drop"], service["tmpfs"]) == (True, ["ALL"], ["/tmp"])
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert not {"devices", "runtime", "privileged", "ipc", "group_add"} & set(service)
    mounted = {name: {(m["type"], m["target"]) for m in with_gpus[name]["volumes"]} for name in COMPUTING}
    assert mounted == {
        "detector": {("volume", "/var/lib/transect")},
        "census": {("bind", "/opt/transect/configs")},
        "trainer": {("volume", "/var/lib/transect"), ("bind", "/opt/transect/configs")},
    }


def test_images_for_gpus_differ_in_their_libraries_and_their_name(
    services: dict[str, Any], with_gpus: dict[str, Any]
) -> None:
    for name in ("detector", "census"):
        builds = {kind: found[name]["build"]["args"] for kind, found in (("cpu", services), ("cuda", with_gpus))}
        assert {kind: arguments["ACCELERATOR"] for kind, arguments in builds.items()} == {"cpu": "cpu", "cuda": "cuda"}
        # The same otherwise, and neither image takes the name of the other.
        assert with_gpus[name]["build"]["target"] == services[name]["build"]["target"] == name
        assert (services[name]["image"], with_gpus[name]["image"]) == (
            f"transect-{name}:local",
            f"transect-{name}:cuda",
        )


def test_what_is_set_for_a_gpu(checkout: Path, services: dict[str, Any], with_gpus: dict[str, Any]) -> None:
    """Each container is told what is new, and what it was told without a GPU is as it was."""
    new = {
        name: {key: value for key, value in with_gpus[name]["environment"].items() if value != told.get(key, "absent")}
        for name, told in ((name, services[name]["environment"]) for name in COMPUTING)
    }
    # None is not passed on: an empty value would hide every GPU.
    assert new == {
        "detector": {"CUDA_VISIBLE_DEVICES": None},
        "census": {"CUDA_VISIBLE_DEVICES": None},
        "trainer": {"CUDA_VISIBLE_DEVICES": None, "TRANSECT_DEVICE": "cuda"},
    }
    chosen = with_gpus_and(checkout, CUDA_VISIBLE_DEVICES="1", TRANSECT_DEVICE="auto", TRANSECT_BACKEND="cuda")
    for name in COMPUTING:
        assert chosen[name]["environment"]["CUDA_VISIBLE_DEVICES"] == "1"
        assert chosen[name]["environment"]["TRANSECT_DEVICE"] == "auto"
    assert {name: chosen[name]["environment"]["TRANSECT_BACKEND"] for name in COMPUTING} == {
        "detector": "cuda",
        "census": "cuda",
        # It evaluates on what it finds.
        "trainer": "",
    }


def test_batches_for_a_large_gpu_fit_into_shared_memory(with_gpus: dict[str, Any]) -> None:
    # The larger pictures that the recipe speaks of, in a batch for a large card. Twice as many loaders validate, with
    # batches twice as large and pictures that are padded by up to a stride on each side.
    side, batch, loaders = 1024, 64, 8
    training = loaders * batch * 3 * side**2
    validation = 2 * loaders * 2 * batch * 3 * (side + 64) ** 2
    # Each loader may have two batches on the way.
    assert int(with_gpus["trainer"]["shm_size"]) > 2 * (training + validation)


def _devices(service: dict[str, Any]) -> list[dict[str, Any]]:
    return list(service["deploy"]["resources"]["reservations"]["devices"])


def test_compose_reserves_the_gpus_that_are_named(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compose, "ROOT", checkout)
    monkeypatch.setenv("TRANSECT_GPUS", "0,2")
    done = config(checkout, "compose.yaml", compose.gpu_file(), **dict.fromkeys(STACK_SECRETS, "k2J-8fhw_Q1x9d7Z"))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["services"]
    for name in COMPUTING:
        assert _devices(found[name]) == [{"driver": "nvidia", "device_ids": ["0", "2"], "capabilities": ["gpu"]}]
        # The copy lies in another folder: paths are still those of the checkout.
        if "build" in found[name]:
            assert found[name]["build"]["context"] == str(checkout)


def test_a_second_detector_as_the_docs_write_it_has_a_port_and_a_gpu_of_its_own(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compose, "ROOT", checkout)
    monkeypatch.setenv("TRANSECT_GPUS", "0")
    (example,) = re.findall(r"```yaml\n(services:\n  detector-2:.*?)```", GPU_PAGE.read_text("utf-8"), re.DOTALL)
    # Its `extends` is relative to it; other tests look at what is new in this checkout.
    override = checkout / "compose.override.yaml"
    override.write_text(example, encoding="utf-8")
    files = ("compose.yaml", compose.gpu_file(), override.name)
    done = config(checkout, *files, **dict.fromkeys(STACK_SECRETS, "k2J-8fhw_Q1x9d7Z"))
    override.unlink()
    assert done.returncode == 0, done.stderr
    first, second = (json.loads(done.stdout)["services"][name] for name in ("detector", "detector-2"))
    assert [_devices(service)[0]["device_ids"] for service in (first, second)] == [["0"], ["1"]]
    assert [[port["published"] for port in service["ports"]] for service in (first, second)] == [["8000"], ["8010"]]
    assert second["networks"] == {"services": {"aliases": ["detector"]}}
    for key in ("image", "read_only", "cap_drop", "security_opt", "tmpfs", "volumes", "build"):
        assert second[key] == first[key], key


def test_the_stack_comes_without_prometheus_and_grafana_unless_they_are_asked_for(services: dict[str, Any]) -> None:
    assert {name for name, service in services.items() if service.get("profiles") == ["observe"]} == {
        "prometheus",
        "grafana",
    }
    # They keep what they have seen, within limits.
    assert any(option.startswith("--storage.tsdb.retention.size=") for option in services["prometheus"]["command"])
    grafana = services["grafana"]["environment"]
    assert grafana["GF_AUTH_ANONYMOUS_ENABLED"] == "false"
    assert grafana["GF_ANALYTICS_REPORTING_ENABLED"] == grafana["GF_ANALYTICS_CHECK_FOR_UPDATES"] == "false"


def test_up_refuses_a_placeholder(checkout: Path) -> None:
    environ = {**os.environ, "POSTGRES_PASSWORD": "changeme", "COMPOSE_PROJECT_NAME": "transect-test-refused"}
    done = subprocess.run(
        ["make", "up"], cwd=checkout, env=environ, check=False, capture_output=True, text=True, timeout=120
    )
    assert done.returncode != 0
    assert "POSTGRES_PASSWORD is a placeholder" in done.stderr
