import argparse
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from benchmarks import gpu, gpu_faults, gpu_machine
from benchmarks.gpu_engine import (
    _sampled,
    detections_difference,
    expected_in_turn,
    least_apart,
    nearest,
    rate,
    raw_difference,
    saturated,
    views,
)
from benchmarks.gpu_place import Place
from benchmarks.gpu_report import REHEARSAL, Outcome, Results, Skipped, outcomes, read_results, report
from benchmarks.gpu_training import write_spots
from benchmarks.gpu_turns import PLAIN, PREDICT, in_order, ratios
from benchmarks.reporting import Bar

from transect.datasets import load_dataset
from transect.engine import Detection

_MIB = 1 << 20


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return Results(tmp_path / "results.jsonl", "numbers", rehearsal=False)


def test_the_steps_fit_into_the_time_and_all_exist() -> None:
    assert sum(step.budget_s for step in gpu.STEPS) <= gpu.TOTAL_S < 480
    for step in gpu.STEPS:
        module, function = step.work.split(":")
        imported = __import__(f"benchmarks.{module}", fromlist=[function])
        assert callable(getattr(imported, function))


def test_a_step_is_judged_by_its_bars(results: Results) -> None:
    results.bar(Bar("boxes", 0.2, 0.5, "px"))
    assert gpu.judged("numbers", lambda: "Fine.", results).status == "passed"
    results.bar(Bar("scores", float("nan"), 0.001))
    failed = gpu.judged("numbers", lambda: "Fine.", results)
    assert (failed.status, failed.sentence) == ("failed", "Not met: scores - at most 0.0010.")


def _raise(error: Exception) -> str:
    raise error


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (Skipped("There is no model."), "skipped", "There is no model."),
        (ImportError("No module named 'mlflow'", name="mlflow"), "skipped", "It needs mlflow"),
        # A fault of ours must not pass for a package that is missing.
        (ImportError("cannot import name 'gone'", name="transect.engine"), "failed", "cannot import name 'gone'"),
        (RuntimeError("CUDA failure 700:\nillegal access"), "failed", "RuntimeError: CUDA failure 700: illegal access"),
    ],
)
def test_what_goes_wrong_is_a_sentence(error: Exception, status: str, said: str, results: Results) -> None:
    outcome = gpu.judged("numbers", lambda: _raise(error), results)
    assert outcome.status == status
    assert outcome.sentence.startswith(said)


def test_a_skipped_step_that_missed_a_bar_has_failed(results: Results) -> None:
    results.bar(Bar("boxes", 0.7, 0.5, "px"))
    assert gpu.judged("numbers", lambda: _raise(Skipped("no NVML")), results).status == "failed"


@pytest.mark.parametrize(
    ("program", "limit", "said"),
    [
        ("import os; os.kill(os.getpid(), 11)", 30, "Its process ended with -11"),
        ("print('no kernel image'); raise SystemExit(5)", 30, "ends with: no kernel image"),
        ("import time; time.sleep(60)", 0.5, "It was not done after 0 s and was stopped"),
    ],
)
def test_a_process_that_says_nothing_has_failed(
    program: str, limit: float, said: str, results: Results, tmp_path: Path
) -> None:
    log, path = tmp_path / "logs" / "one.log", tmp_path / "results.jsonl"
    outcome = gpu.watched([sys.executable, "-c", program], "numbers", log, limit, results, path)
    assert outcome.status == "failed"
    assert said in outcome.sentence
    assert outcomes(read_results(path))[0].sentence == outcome.sentence


def test_a_step_that_fails_does_not_end_the_run(tmp_path: Path) -> None:
    # No model: what needs one is skipped. No GPU: the machine cannot be described. Each is its own process.
    arguments = argparse.Namespace(out=tmp_path, rehearse=False)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    wanted = [step for step in gpu.STEPS if step.name in ("machine", "batches")]
    if not gpu_machine.why_no_gpu():
        pytest.skip("there is a GPU here")
    gpu.run_steps(wanted, arguments, scratch)
    assert [(one.step, one.status) for one in outcomes(read_results(tmp_path / "results.jsonl"))] == [
        ("machine", "failed"),
        ("batches", "skipped"),
    ]


def test_the_time_for_all_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "TOTAL_S", 1.0)
    gpu.run_steps(gpu.STEPS, argparse.Namespace(out=tmp_path, rehearse=False), tmp_path)
    ended = outcomes(read_results(tmp_path / "results.jsonl"))
    assert [one.step for one in ended] == [step.name for step in gpu.STEPS]
    assert {(one.status, one.sentence) for one in ended} == {("skipped", "The 1 s for all steps were used up.")}


def test_the_report_has_everything_and_marks_a_rehearsal(tmp_path: Path) -> None:
    results = Results(tmp_path / "results.jsonl", "numbers", rehearsal=True)
    results.fact("driver", "580.65\nfor CUDA | 13")
    results.figure("fp32", 812.3, "tiles/s")
    results.figure("fp32, broken", float("inf"), "tiles/s")
    results.bar(Bar("boxes", float("nan"), 0.5, "px"))
    results.outcome(Outcome("numbers", "failed", "Not met.", 1.5))
    lines = read_results(tmp_path / "results.jsonl")
    assert [line["kind"] for line in lines] == ["fact", "figure", "figure", "bar", "step"]
    assert {line["note"] for line in lines} == {REHEARSAL}
    assert [line["value"] for line in lines[1:4]] == [812.3, None, None]
    text = report(lines).show(markdown=True)
    assert "**Rehearsal on a CPU, no figure of a GPU.** 1 steps in 2 s: 0 passed, 1 failed, 0 skipped." in text
    assert "| numbers | driver | 580.65 for CUDA / 13 |" in text
    assert "| numbers | fp32 | 812 | tiles/s |" in text
    assert "| numbers: boxes | - px | at most 0.500 px | not met |" in text


def test_a_run_on_a_gpu_is_marked_as_nothing_else(results: Results, tmp_path: Path) -> None:
    results.outcome(Outcome("numbers", "passed", "Compared.", 1.0))
    (line,) = read_results(tmp_path / "results.jsonl")
    assert "note" not in line
    assert "ehearsal" not in report([line]).show(markdown=True)


def test_raw_outputs_differ_where_something_is_seen() -> None:
    theirs = np.zeros((1, 6, 5), np.float32)
    theirs[0, 4, 0] = 0.9
    ours = theirs.copy()
    ours[0, 2, 0], ours[0, 5, 1] = 0.25, 0.002
    # Nobody sees this one.
    ours[0, 0, 4] = 100
    assert list(raw_difference(ours, theirs)) == pytest.approx([0.25, 0.002])
    ours[0, 5, 3] = np.nan
    assert np.isnan(raw_difference(ours, theirs)[1])


def _detection(x: float, score: float, class_id: int = 0) -> Detection:
    return Detection((x, 10.0, x + 20, 30.0), score, class_id, "zebra")


def test_detections_are_matched_by_place_and_class() -> None:
    theirs = [_detection(0, 0.9), _detection(50, 0.8), _detection(90, 0.1005)]
    ours = [_detection(50.25, 0.8004), _detection(0, 0.9)]
    assert list(detections_difference(ours, theirs, least=0.1)) == pytest.approx([0.25, 0.0004, 0])
    assert detections_difference(ours[:1], theirs)[2] == 1
    assert detections_difference([_detection(0, 0.9, class_id=1)], [_detection(0, 0.9)])[2] == 2


class _Network:
    """Counts how many are in it at once."""

    name, precision, parallel = "cuda", "fp32", 32

    def __init__(self) -> None:
        self.calls = 0

    def infer(self, image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        self.calls += 1
        return image[None, :1]

    def close(self) -> None: ...


def test_rates_count_tiles() -> None:
    network, tiles = _Network(), np.zeros((2, 8, 8, 3), np.uint8)
    found: Any = network
    assert rate(found, tiles, (1, 16), 0.05) > 0
    assert network.calls >= 2 * 17
    with pytest.raises(ValueError, match="at most 16"):
        rate(found, tiles, (17,), 0.05)
    network.calls = 0
    per_second = saturated(network.infer, tiles, 0.1, 4)
    assert per_second == pytest.approx(network.calls / 0.1, rel=0.5)
    # A tile alone takes 10 ms and sixteen take 20: 17 in 30 ms.
    assert expected_in_turn(100, 800) == pytest.approx(17 / 0.03)


def test_each_caller_has_a_picture_of_its_own() -> None:
    tiles = np.random.default_rng(0).integers(0, 255, (2, 8, 8, 3), dtype=np.uint8)
    pictures = views(tiles, 16)
    assert len({picture.tobytes() for picture in pictures}) == 16
    with pytest.raises(ValueError, match="16 views, not 17"):
        views(tiles, 17)
    answers = np.zeros((3, 5, 4), np.float32)
    answers[1, 4, 0], answers[2, 4, 1] = 0.5, 0.25
    assert least_apart(answers) == 0.25
    assert [nearest(answer + np.float32(0.01), answers) for answer in answers] == [0, 1, 2]


def test_ratios_are_of_what_is_alike() -> None:
    ours, detector = "our network, fp32", "our detector, fp32"
    rates = {
        ours: [90.0, 120.0, 100.0],
        detector: [30.0, 30.0, 30.0],
        PLAIN[0]: [30.0, 30.0, 50.0],
        PREDICT: [10.0] * 3,
    }
    assert ratios(rates) == {(ours, PLAIN[0]): 3.0, (detector, PREDICT): 3.0}
    assert [in_order("abc", number)[0] for number in range(4)] == ["a", "b", "c", "a"]


class _FullError(RuntimeError):
    """torch.cuda.OutOfMemoryError of a GPU that is not there."""


def test_a_gpu_is_filled_to_less_than_two_mebibytes() -> None:
    left = [5 * 1024 * _MIB + 3 * _MIB]

    def empty(size: int, **_: object) -> SimpleNamespace:
        if size > left[0]:
            raise _FullError
        left[0] -= size
        return SimpleNamespace(numel=lambda: size)

    torch = SimpleNamespace(empty=empty, uint8=None, cuda=SimpleNamespace(OutOfMemoryError=_FullError))
    gpu_faults._fill(torch)
    assert left[0] == _MIB


def test_what_a_gpu_does_not_measure_is_left_out() -> None:
    class NVMLError(Exception):
        pass

    def refuse(*_: object) -> float:
        raise NVMLError

    nvml = SimpleNamespace(
        NVMLError=NVMLError,
        NVML_CLOCK_SM=1,
        nvmlDeviceGetUtilizationRates=lambda handle: SimpleNamespace(gpu=97),
        nvmlDeviceGetMemoryInfo=lambda handle: SimpleNamespace(used=512 * _MIB),
        nvmlDeviceGetClockInfo=refuse,
        nvmlDeviceGetPowerUsage=lambda handle: 350_000,
    )
    with _sampled(nvml, None) as samples:
        saturated(lambda tile: tile.sum(), np.zeros((1, 8, 8, 3), np.uint8), 0.5, 1)
    assert {name: (unit, set(values)) for name, (unit, values) in samples.items()} == {
        "computing": ("%", {97.0}),
        "memory used": ("MiB", {512.0}),
        "power": ("W", {350.0}),
    }


def test_a_read_only_folder_takes_nothing(tmp_path: Path) -> None:
    folder = gpu_faults.read_only_folder(tmp_path)
    assert folder is not None
    with pytest.raises(OSError, match=r"."):
        (folder / "weights").mkdir()


def test_the_training_set_is_one(tmp_path: Path) -> None:
    dataset = load_dataset(write_spots(tmp_path, train=3, val=2))
    assert [len(dataset.splits[name].images) for name in ("train", "val", "test")] == [3, 2, 8]
    assert all(len(rows) == 2 for rows in dataset.splits["train"].rows)


def test_steps_without_a_model_are_skipped(tmp_path: Path) -> None:
    place = Place(tmp_path, tmp_path, rehearse=True)
    for work in (place.package, place.tiles, lambda: place.need_gpu("it has memory")):
        with pytest.raises(Skipped):
            work()
