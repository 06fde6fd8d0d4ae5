from pathlib import Path

import pytest

from toy_model import build_toy_package
from transect.registry import CensusRun, Registry, find_run, run_lineage, version_details


@pytest.fixture
def run_id(registry: Registry, tmp_path: Path) -> str:
    """A run that made version 1."""
    tags = {"mlflow.source.git.commit": "0a1b", "transect.git_dirty": "true", "transect.dataset_digest": "d1"}
    run = registry.client.create_run(registry.experiment("configs_a"), run_name="trained", tags=tags)
    registry.register(build_toy_package(tmp_path / "package"), run.info.run_id, tags={"transect.dataset_digest": "d1"})
    return str(run.info.run_id)


def _log_census(registry: Registry, model: str, version: str, tags: dict[str, str]) -> str:
    params = {"model": model, "model_version": version}
    return registry.log_census_run(CensusRun(name="flight", params=params, metrics={}, tags=tags, artifacts=()))


def test_from_a_version_to_its_run_and_on_to_its_censuses_and_back(registry: Registry, run_id: str) -> None:
    resolved = registry.resolve("candidate")
    tags = {
        "transect.census_run": "c0ffee",
        "transect.model_run_id": run_id,
        "transect.package_sha256": resolved.package_sha256,
    }
    census = _log_census(registry, "detector", "1", tags)
    shown = version_details(registry, "candidate")
    assert shown["trained by"] == f"run trained ({run_id}) in configs_a"
    assert (shown["dataset digest"], shown["commit"]) == ("d1", "0a1b with local changes")
    assert shown["census c0ffee"] == f"flight (run {census})"

    lineage = run_lineage(registry, find_run(registry, run_id))
    assert lineage["detector version 1"] == "candidate"
    assert lineage["census c0ffee"] == f"flight (run {census})"
    back = run_lineage(registry, find_run(registry, census))
    assert back["model trained by"] == shown["trained by"]


def test_links_for_mlflows_pages(registry: Registry, run_id: str) -> None:
    client = registry.client
    run = client.get_run(run_id)
    version = client.get_model_version("detector", "1")
    assert f"(#/experiments/{run.info.experiment_id}/runs/{run_id})" in (version.description or "")
    assert "`d1`" in (version.description or "")
    assert "`0a1b`" in (version.description or "")
    assert run.data.tags["transect.model_version"] == "detector/1"
    census = _log_census(registry, "detector", "1", {})
    tags = client.get_run(census).data.tags
    assert tags["transect.model_version"] == "detector/1"
    assert "(#/models/detector/versions/1)" in tags["mlflow.note.content"]
    folder = _log_census(registry, "", "", {})
    assert "mlflow.note.content" not in client.get_run(folder).data.tags


def test_a_deleted_run_is_reported(registry: Registry, run_id: str) -> None:
    registry.client.delete_run(run_id)
    assert version_details(registry, "candidate")["trained by"].endswith("in configs_a, deleted")
