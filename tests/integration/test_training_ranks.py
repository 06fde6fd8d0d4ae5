"""Training by several processes: on CPUs, which meet by gloo as GPUs do by NCCL, and on GPUs where there are two."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from integration.sweep_runs import environment_of, write_place
from transect.registry import connect
from transect.settings import Settings, load_settings
from transect.tracking.provenance import read_provenance
from transect.training.pipeline import fit, train_plan
from transect.training.plan import Plan, TrainRequest, make_plan
from transect.training.run_session import open_session
from transect.training.trainer.ranks import RankError
from transect.training.trainer.trainer import TrainingCallbacks, run_training

_SOON_S = 300.0
# Rank 0 draws what one process draws with the next seed: a head of the network that finds some of the spots.
_SEED = 5
_ALONE = """
import sys
from pathlib import Path
from integration.test_training_ranks import plan_on_two, request_of, settings_of, untracked
from transect.training.trainer.trainer import run_training
home = Path(sys.argv[1])
plan = plan_on_two(request_of(), settings_of(home))
(home / "run").mkdir()
run_training(plan.dataset, plan.arguments, home / "run", untracked(lambda *_: print("epoch", flush=True)))
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a recipe and a training set."""
    write_place(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tmp_path


def settings_of(home: Path, **more: str) -> Settings:
    """Settings with the store under `home`."""
    return load_settings(environment_of(home, **more), env_file=None)


def request_of(*, resume: bool = False) -> TrainRequest:
    """A request for four epochs, up to the validated weights."""
    return TrainRequest(config=Path("configs/tiny.yaml"), data=Path("spots/data.yaml"), until="trained", resume=resume)


def plan_on_two(request: TrainRequest, settings: Settings) -> Plan:
    """The plan of a training by two processes on the CPU, which no setting asks for."""
    plan = make_plan(request, settings.model_copy(update={"device": "cpu"}))
    return replace(plan, device="cpu,cpu", arguments={**plan.arguments, "device": "cpu,cpu", "seed": _SEED})


def untracked(epoch: Callable[[int, dict[str, float]], None]) -> TrainingCallbacks:
    """Callbacks of a training without a log."""
    return TrainingCallbacks(started=lambda _: None, epoch=epoch, reduced=lambda *_: None)


def _ranks(parent: int | None = None) -> dict[int, int]:
    """The process of each rank of a training."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            status = (folder / "status").read_text()
            environment = dict(part.split(b"=", 1) for part in (folder / "environ").read_bytes().split(b"\0") if part)
        except (OSError, ValueError):
            continue
        mine = f"PPid:\t{os.getpid() if parent is None else parent}\n" in status
        if mine and b"transect.training.rank" in words and "State:\tZ" not in status:
            found[int(environment[b"RANK"])] = int(folder.name)
    return found


def _history(settings: Settings, run_id: str, name: str) -> list[int]:
    return [one.step for one in connect(settings).client.get_metric_history(run_id, name)]


def test_a_rank_that_is_killed_ends_the_others_and_the_run_goes_on(tmp_path: Path) -> None:
    settings, request = settings_of(tmp_path / "home"), request_of()
    plan = plan_on_two(request, settings)
    seen: list[dict[int, int]] = []

    def epoch(number: int, _: Mapping[str, float]) -> None:
        seen.append(_ranks())
        if number == 2:
            os.kill(seen[-1][1], signal.SIGKILL)

    killed = r"Rank 1 of 2, on the CPU, was killed by SIGKILL, and the others were stopped; .* with --resume goes on"
    with (
        pytest.raises(RankError, match=killed),
        open_session(request, plan, read_provenance(Path.cwd()), settings) as session,
    ):
        fit(plan, session, epoch)
    assert [sorted(ranks) for ranks in seen] == [[0, 1], [0, 1]]
    assert _ranks() == {}
    client, run_id = connect(settings).client, session.log.run_id
    assert client.get_run(run_id).info.status == "FAILED"

    request = request_of(resume=True)
    outcome = train_plan(plan_on_two(request, settings), request, settings)
    assert (outcome.run_id, outcome.run_dir) == (run_id, session.folder)
    assert _ranks() == {}
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    # Each epoch once, in the log and in the table, whichever of them was trained again.
    assert _history(settings, run_id, "train/loss") == [1, 2, 3, 4]
    assert _history(settings, run_id, "metrics/mAP50-95") == [1, 2, 3, 4]
    table = (outcome.run_dir / "results.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in table] == ["epoch", "1", "2", "3", "4"]
    # 16 images in batches of 4 are two each for the two ranks.
    assert (run.data.params["batch"], run.data.params["batches_per_epoch"]) == ("4", "4")
    assert run.data.tags["transect.batch_used"] == "4"
    assert {"best/mAP50", "best/mAP50-95"} <= set(run.data.metrics)
    stored = {info.path for info in client.list_artifacts(run_id, "weights")}
    assert "weights/best.pt" in stored
    # Both ranks validated half of the images; this process alone has validated the best weights on all of them.
    together = max(one.value for one in client.get_metric_history(run_id, "metrics/mAP50"))
    assert outcome.metrics["mAP50"] == run.data.metrics["best/mAP50"] == pytest.approx(together, rel=0.3)
    assert together > 0.02
    assert not list((outcome.run_dir / "weights").glob("complete*"))
    assert (outcome.run_dir / "ranks.log").is_file()


def test_ranks_train_what_one_process_trains(tmp_path: Path) -> None:
    plan = plan_on_two(request_of(), settings_of(tmp_path / "home"))
    values: list[dict[str, float]] = []
    # Rank 0 draws what one process draws with the next seed; that of seed 0 finds most spots, that of seed 1 none.
    for device, seed in (("cpu,cpu", 0), ("cpu", 1), ("cpu", 0)):
        arguments = {**plan.arguments, "epochs": 1, "device": device, "seed": seed}
        folder = tmp_path / f"run-{len(values)}"
        folder.mkdir()
        callbacks = untracked(lambda _, found: values.append(found))
        run_training(plan.dataset, arguments, folder, callbacks)
    ranks, same, other = values
    for name in ("val/box_loss", "val/cls_loss", "val/dfl_loss"):
        assert ranks[name] == pytest.approx(same[name], rel=0.05), name
    assert other["val/cls_loss"] < 0.5 * same["val/cls_loss"]


def test_what_ends_a_trial_ends_its_ranks(tmp_path: Path) -> None:
    plan = plan_on_two(request_of(), settings_of(tmp_path / "home"))
    (tmp_path / "run").mkdir()

    def epoch(number: int, _: Mapping[str, float]) -> None:
        assert number == 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_training(plan.dataset, plan.arguments, tmp_path / "run", untracked(epoch))
    assert _ranks() == {}
    # The epoch that was not kept has no checkpoint either.
    assert list((tmp_path / "run" / "weights").iterdir()) == []


def test_a_failure_in_a_rank_is_told_with_its_reason(tmp_path: Path) -> None:
    plan = plan_on_two(request_of(), settings_of(tmp_path / "home"))
    (tmp_path / "run").mkdir()
    arguments = {**plan.arguments, "freeze": 1000}
    with pytest.raises(RankError, match=r"Rank \d of 2, on the CPU, failed: RuntimeError: 'freeze=1000' froze the"):
        run_training(plan.dataset, arguments, tmp_path / "run", untracked(lambda *_: None))
    assert _ranks() == {}


def test_ranks_end_with_the_process_that_keeps_the_log(tmp_path: Path) -> None:
    tests = Path(__file__).parents[1]
    process = subprocess.Popen(
        [sys.executable, "-c", _ALONE, str(tmp_path / "home")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tests), *filter(None, [os.environ.get("PYTHONPATH")])])},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "epoch\n"
        ranks = _ranks(process.pid)
        assert sorted(ranks) == [0, 1]
    finally:
        process.kill()
        process.communicate()
    deadline = time.monotonic() + _SOON_S
    while any(_lives(pid) for pid in ranks.values()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _lives(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_all_gpus_of_a_machine_train_one_run(tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "home", TRANSECT_DEVICE="all")
    request = request_of()
    count = torch.cuda.device_count()
    plan = make_plan(replace(request, overrides=(f"batch={2 * count}",)), settings)
    assert plan.device == ",".join(map(str, range(count)))
    outcome = train_plan(plan, request, settings)
    assert _history(settings, outcome.run_id, "train/loss") == [1, 2, 3, 4]
    assert _ranks() == {}
