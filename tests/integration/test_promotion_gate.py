"""The gate with models that were really trained, and promotions that race one another from several processes."""

import multiprocessing
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest

from integration.servers import MlflowServer
from toy_model import build_toy_package, write_toy_dataset
from transect.datasets import dataset_digest, load_dataset
from transect.errors import TransectError
from transect.registry import GateConfig, Registry, connect, promote
from transect.registry.promotion.alias_lock import hold_alias_lock
from transect.registry.promotion.comparison import compare_on_split
from transect.registry.promotion.gate import Evidence
from transect.settings import Settings, load_settings

# How long a model takes on a busy machine is nothing that these tests may depend on.
_GATE = GateConfig(max_latency_ratio=None)
_PROCESSES = 3
_STEPS = 6


def _settings(home: Path, server: MlflowServer, name: str) -> Settings:
    environment = {
        "TRANSECT_HOME": str(home),
        "TRANSECT_THREADS": "1",
        "TRANSECT_MODEL_NAME": f"{name}-{uuid.uuid4().hex[:8]}",
        **server.environment(),
    }
    return load_settings(environment, env_file=None)


def _register(registry: Registry, package: Path, data: Path) -> str:
    run = registry.client.create_run(registry.experiment("integration"))
    tags = {"transect.data": str(data), "transect.dataset_digest": dataset_digest(load_dataset(data))}
    return registry.register(package, run.info.run_id, tags=tags).version


def _aliases(registry: Registry) -> dict[str, str]:
    return {alias: row.version for row in registry.list_versions() for alias in row.aliases}


@contextmanager
def _patient() -> Iterator[pytest.MonkeyPatch]:
    """A machine that is busy with something else takes no claim away."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("LEASE_S", "STALE_S", "WAIT_S"):
            patch.setattr(f"transect.registry.promotion.alias_lock.{name}", 3600.0)
        yield patch


def _promote_with_others(settings: Settings, version: str, barrier: Barrier, answers: Any) -> None:
    """Promote `version`; all processes have evaluated before the first one moves anything."""

    def evaluate_and_wait(*arguments: Any) -> Evidence:
        evidence = compare_on_split(*arguments)
        barrier.wait(timeout=300)
        return evidence

    with _patient() as patch:
        patch.setattr("transect.registry.promotion.promote.compare_on_split", evaluate_and_wait)
        try:
            answers.put((version, promote(connect(settings), candidate=version, gate=_GATE, actor=version).sentence))
        except TransectError as refusal:
            answers.put((version, str(refusal)))


def test_of_promotions_at_once_one_wins(mlflow_on_postgres: MlflowServer, tmp_path: Path) -> None:
    settings = _settings(tmp_path / "home", mlflow_on_postgres, "race")
    registry = connect(settings)
    data = write_toy_dataset(tmp_path / "data")
    first = _register(registry, build_toy_package(tmp_path / "first", shift=4.0), data)
    assert promote(registry, actor="ada").promoted
    better = [
        _register(registry, build_toy_package(tmp_path / f"better-{number}", weights=b"%d" % number), data)
        for number in range(_PROCESSES)
    ]
    spawn = multiprocessing.get_context("spawn")
    barrier, answers = spawn.Barrier(_PROCESSES), spawn.Queue()
    processes = [
        spawn.Process(target=_promote_with_others, args=(settings, version, barrier, answers)) for version in better
    ]
    for process in processes:
        process.start()
    said = dict(answers.get(timeout=400) for _ in processes)
    for process in processes:
        process.join(timeout=60)
        assert process.exitcode == 0
    winners = [version for version, sentence in said.items() if "is in production, in place of" in sentence]
    assert len(winners) == 1, said
    (winner,) = winners
    for version in set(better) - {winner}:
        assert f"production moved to version {winner} while it was evaluated" in said[version]
    assert _aliases(registry) == {"candidate": better[-1], "production": winner, "previous": first}
    # Who won and who lost is in the versions' tags, and no claim is left.
    verdicts = {version: registry.resolve(version).tags["transect.verdict"] for version in better}
    assert verdicts == dict.fromkeys(better, "refused") | {winner: "promoted"}
    model = registry.client.get_registered_model(settings.model_name)
    assert [key for key in model.tags if key.startswith("transect.claim")] == []


def _climb(settings: Settings, answers: Any) -> None:
    """Move production from version to version, each time only if it is what was read before the claim."""
    registry = connect(settings)
    client, name = registry.client, settings.model_name

    def production() -> int:
        return int(client.get_model_version_by_alias(name, "production").version)

    won = []
    with _patient():
        while (version := production()) <= _STEPS:
            with hold_alias_lock(client, registry.uri, name, actor="climber") as claim:
                if production() == version:
                    claim.check()
                    client.set_registered_model_alias(name, "production", str(version + 1))
                    won.append(version)
    answers.put(won)


def test_no_move_is_made_twice(mlflow_on_sqlite: MlflowServer, tmp_path: Path) -> None:
    settings = _settings(tmp_path / "home", mlflow_on_sqlite, "climb")
    registry = connect(settings)
    registry.client.create_registered_model(settings.model_name)
    run = registry.client.create_run(registry.experiment("integration")).info
    for _ in range(_STEPS + 1):
        registry.client.create_model_version(settings.model_name, run.artifact_uri, run.run_id, await_creation_for=0)
    registry.client.set_registered_model_alias(settings.model_name, "production", "1")
    spawn = multiprocessing.get_context("spawn")
    answers = spawn.Queue()
    processes = [spawn.Process(target=_climb, args=(settings, answers)) for _ in range(_PROCESSES)]
    for process in processes:
        process.start()
    won = [step for _ in processes for step in answers.get(timeout=400)]
    for process in processes:
        process.join(timeout=60)
    assert sorted(won) == list(range(1, _STEPS + 1))
