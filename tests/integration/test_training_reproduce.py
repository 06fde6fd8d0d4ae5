"""A training is repeated from what MLflow holds of it, each time in a process of its own."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cli_process import CliProcess, start
from tiny_datasets import write_spots_dataset
from transect.errors import InputError, NotRegisteredError
from transect.registry import Registry, connect, find_run, run_lineage
from transect.settings import Settings, load_settings
from transect.training.reproduce import logged_training
from transect.training.reproduce.reproduce import plan_reproduction

_RECIPE = """
train: {epochs: 2, imgsz: 64, batch: 4, nbs: 12, optimizer: AdamW, lr0: 0.002, mosaic: 1.0, plots: false}
precision: {int8: false, bf16: false}
tags: {purpose: test}
"""
_SOON_S = 600.0


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with a recipe that was changed since it was committed, and a training set beside it."""
    place = tmp_path_factory.mktemp("place")
    recipe = place / "configs" / "tiny.yaml"
    recipe.parent.mkdir()
    recipe.write_text("train: {}\n")
    (place / ".gitignore").write_text("home/\nspots/\nothers/\nmatplotlib/\n")
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    for words in (["init"], ["add", "."], ["commit", "-m", "recipe"]):
        subprocess.run(["git", *identity, *words], cwd=place, check=True, capture_output=True)
    recipe.write_text(_RECIPE)
    write_spots_dataset(place / "spots", images=4, size=64)
    write_spots_dataset(place / "others", images=4, size=64, seed=1)
    return place


@pytest.fixture(scope="module")
def environment(place: Path) -> dict[str, str]:
    return {"TRANSECT_HOME": str(place / "home"), "TRANSECT_PRETRAINED": "none", "TRANSECT_THREADS": "1"} | {
        "TRANSECT_SOURCE_DIFF": "always"
    }


@pytest.fixture(scope="module")
def settings(environment: dict[str, str]) -> Settings:
    # What training starts from comes from the run, not from here.
    return load_settings({**environment, "TRANSECT_PRETRAINED": "auto"}, env_file=None)


@pytest.fixture(scope="module")
def registry(settings: Settings) -> Registry:
    return connect(settings)


@pytest.fixture(autouse=True)
def _in_place(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)


def _start(place: Path, environment: dict[str, str], *arguments: str) -> CliProcess:
    known = {**os.environ, **environment, "OMP_NUM_THREADS": "1", "MPLCONFIGDIR": str(place / "matplotlib")}
    return start(
        *arguments,
        cwd=place,
        env=known,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def _finish(process: CliProcess, expected: int = 0) -> str:
    try:
        said, _ = process.communicate(timeout=_SOON_S)
    finally:
        process.kill()
    assert process.returncode == expected, said
    return said


@pytest.fixture(scope="module")
def run_id(place: Path, environment: dict[str, str]) -> str:
    """A run that was killed after its first epoch and went on to its end in another process."""
    command = ["train", "--config", "configs/tiny.yaml", "--data", "spots/data.yaml", "lr0=0.003"]
    process = _start(place, environment, *command)
    deadline = time.monotonic() + _SOON_S
    while not list((place / "home").glob("train/*/weights/last.pt")):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    said = _finish(_start(place, environment, *command, "--resume"))
    return said.partition("(run ")[2].partition(")")[0]


def test_a_run_that_was_killed_and_went_on_comes_out_the_same(
    place: Path, environment: dict[str, str], run_id: str, registry: Registry
) -> None:
    said = _finish(_start(place, environment, "runs", "reproduce", run_id[:12]))
    assert "Source, versions, machine and starting weights are as they were." in said
    assert "The same to 1e-06: " in said
    old = find_run(registry, run_id)
    new = find_run(registry, old.tags["transect.reproduced_by"])
    assert (new.experiment, new.status, new.tags["purpose"]) == ("configs_tiny", "FINISHED", "test")
    assert new.tags["transect.reproduces"] == run_id
    assert new.tags["transect.reproduction"].startswith("The same to 1e-06")
    assert float(new.tags["transect.reproduction_difference"]) <= 1e-6
    for metric in ("train/loss", "val/loss", "lr/pg0", "best/mAP50-95", "test/mAP50-95", "test/class/dark/mAP50"):
        histories = [registry.client.get_metric_history(row.run_id, metric) for row in (old, new)]
        old_values, new_values = ({one.step: one.value for one in history} for history in histories)
        assert old_values
        assert old_values == pytest.approx(new_values, abs=1e-6)
    # It is a check, and no model.
    assert registry.resolve("@candidate").run_id == run_id
    assert len(registry.list_versions()) == 1
    assert run_lineage(registry, new)["reproduces run"] == run_id
    assert run_lineage(registry, old)["reproduced by run"] == new.run_id


def test_another_training_set_is_refused(place: Path, run_id: str, settings: Settings) -> None:
    with pytest.raises(InputError, match=r"others.data\.yaml is not the one that .* was trained on .* --data"):
        plan_reproduction(run_id, settings, data=place / "others" / "data.yaml")
    moved = place / "spots" / "moved.yaml"
    moved.write_text((place / "spots" / "data.yaml").read_text())
    plan = plan_reproduction(run_id, settings, data=moved)
    assert plan.differences == ()
    assert f"--data {moved}" in plan.command
    moved.unlink()


@contextmanager
def _told(registry: Registry, run_id: str, **tags: str) -> Iterator[None]:
    """Other tags for as long as the block lasts."""
    named = {name.replace("__", "."): value for name, value in tags.items()}
    before = registry.client.get_run(run_id).data.tags
    try:
        for name, value in named.items():
            registry.client.set_tag(run_id, name, value)
        yield
    finally:
        for name in named:
            if name in before:
                registry.client.set_tag(run_id, name, before[name])
            else:
                registry.client.delete_tag(run_id, name)


def test_whatever_is_not_as_it_was_is_named(run_id: str, settings: Settings, registry: Registry) -> None:
    commit = registry.client.get_run(run_id).data.tags["mlflow.source.git.commit"]
    tags = {
        "version__torch": "1.0",
        "version__mlflow": "1.0",
        "mlflow__source__git__commit": "0" * 40,
        "transect__cpu": "abacus",
        "transect__weights_used": "starter",
        "param_drift": '{"epochs": {"old": "5", "new": "2"}}',
        "transect__parent_run": "f" * 32,
    }
    with _told(registry, run_id, **tags):
        plan = plan_reproduction(run_id, settings)
    said = "\n".join(plan.differences)
    assert f"It ran from commit {'0' * 40} and this is {commit}: git checkout {'0' * 40} && git apply " in said
    assert "changes.patch" in said
    assert "torch was 1.0 and is " in said
    assert "pip install -r " in said
    assert "mlflow" not in said
    assert "Its CPU was abacus and is " in said
    assert "It started from the weights starter and here would start from none." in said
    assert "Its parameters changed on the way (epochs from 5 to 2)" in said
    assert f"run {'f' * 32}, which is not in MLflow any more" in said
    with pytest.raises(InputError, match=r"cannot be repeated as it was: It ran from commit .* --anyway trains"):
        plan.refuse_differences()
    plan_reproduction(run_id, settings).refuse_differences()


def test_other_local_changes_are_named(place: Path, run_id: str, settings: Settings) -> None:
    recipe = place / "configs" / "tiny.yaml"
    try:
        recipe.write_text(_RECIPE + "\n")
        assert (
            plan_reproduction(run_id, settings)
            .differences[0]
            .startswith("It ran with other local changes than there are")
        )
    finally:
        recipe.write_text(_RECIPE)


def test_a_fork_stands_on_its_parents(run_id: str, settings: Settings, registry: Registry) -> None:
    client = registry.client
    digest = find_run(registry, run_id).params["dataset_digest"]
    parent = client.create_run(registry.experiment("parents"), tags={"transect.dataset_digest": digest}).info.run_id
    client.delete_run(parent)
    with _told(registry, run_id, transect__parent_run=parent):
        assert plan_reproduction(run_id, settings).differences == ()
        client.restore_run(parent)
        client.set_tag(parent, "transect.dataset_digest", "another")
        assert plan_reproduction(run_id, settings).differences == (
            f"Its first epochs are those of run {parent}, which had another training set.",
        )


def test_what_is_no_finished_training_is_refused(run_id: str, settings: Settings, registry: Registry) -> None:
    with pytest.raises(NotRegisteredError, match="MLflow has no run 'nowhere'"):
        plan_reproduction("nowhere", settings)
    for experiment in ("census", "promotion"):
        other = registry.client.create_run(registry.experiment(experiment), run_name="flight").info.run_id
        registry.client.set_terminated(other)
        with pytest.raises(InputError, match=rf"Run flight \({other}\) of {experiment} is no training"):
            plan_reproduction(other, settings)
    registry.client.set_terminated(run_id, "KILLED")
    try:
        with pytest.raises(InputError, match="is KILLED, and only a finished training can be repeated"):
            plan_reproduction(run_id, settings)
    finally:
        registry.client.set_terminated(run_id, "FINISHED")


def test_a_damaged_recipe_is_one_sentence(run_id: str, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logged_training, "atomic_write", lambda path, content: path.write_bytes(b"train: ["))
    with pytest.raises(InputError, match=r"The recipe that run .* logged \(config/recipe\.yaml\) is damaged"):
        plan_reproduction(run_id, settings)
