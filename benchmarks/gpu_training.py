"""Two epochs of training on a GPU with half precision: killed in the second, gone on with, and what its run holds."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from benchmarks.gpu_faults import read_only_folder
from benchmarks.gpu_place import Place
from benchmarks.gpu_report import Results
from benchmarks.processes import tail
from benchmarks.reporting import Bar

from transect.registry import connect
from transect.settings import Settings, load_settings

_SIDE = 320
_RECIPE = """
precision: {bf16: false, int8: false, fp16: false, tf32: false}
train: {epochs: 2, patience: 0, imgsz: 320, batch: 8, workers: 2, seed: 0, optimizer: AdamW, lr0: 0.001, plots: false}
"""


def training(place: Place, results: Results) -> str:
    """The command `transect train`, as people start it, in a working directory that is read-only if there is one."""
    # Before minutes are spent: the training needs all of them.
    import mlflow  # noqa: F401
    import ultralytics  # noqa: F401

    recipe = place.scratch / "recipe.yaml"
    recipe.write_text(_RECIPE, encoding="utf-8")
    data = write_spots(place.scratch / "spots", train=24 if place.rehearse else 240)
    home = place.scratch / "home"
    own = {"TRANSECT_HOME": str(home), "TRANSECT_PRETRAINED": "starter", "TRANSECT_DEVICE": place.device}
    command = [sys.executable, "-m", "transect", "train", "--model", "yolo11n"]
    command += ["--config", str(recipe), "--data", str(data)]
    folder = read_only_folder(place.scratch) or place.scratch
    results.fact("working directory", str(folder))
    run = _kill_in_second_epoch(command, own, folder, place.scratch / "training.log", home / "train")
    if _told(run, 2):
        raise RuntimeError("the second epoch was over before the training was killed")
    start = time.perf_counter()
    log = place.scratch / "resumed.log"
    with log.open("wb") as stream:
        done = subprocess.run(
            [*command, "--resume"], env={**os.environ, **own}, cwd=folder, stdout=stream, stderr=stream, check=False
        )
    if done.returncode:
        raise RuntimeError(f"--resume ended with {done.returncode}: {tail(log)}")
    results.figure("resumed, from the command to its end", time.perf_counter() - start, "s")
    return _read_run(place, results, load_settings(own, None), run)


def _kill_in_second_epoch(command: list[str], own: Mapping[str, str], folder: Path, log: Path, runs: Path) -> Path:
    """Start it and kill it once its first epoch is kept; the folder of the run."""
    with log.open("wb") as stream:
        process = subprocess.Popen(command, env={**os.environ, **own}, cwd=folder, stdout=stream, stderr=stream)
    try:
        while process.poll() is None:
            for run in runs.glob("*"):
                if _told(run, 1) and (run / "weights" / "last.pt").is_file():
                    process.send_signal(signal.SIGKILL)
                    process.wait()
                    return run
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
    raise RuntimeError(f"the training ended with {process.returncode} in its first epoch: {tail(log)}")


def _told(run: Path, epoch: int) -> bool:
    journal = run / "spool" / "journal.jsonl"
    return journal.is_file() and f"metrics of step {epoch}" in journal.read_text(encoding="utf-8")


def _read_run(place: Place, results: Results, settings: Settings, run: Path) -> str:
    client = connect(settings).client
    run_id = json.loads((run / "spool" / "state.json").read_text(encoding="utf-8"))["run_id"]
    found = client.get_run(run_id)
    history = {metric.step: metric.value for metric in client.get_metric_history(run_id, "train/loss")}
    results.fact("run", f"{found.info.status}, epochs {', '.join(str(step) for step in sorted(history))}")
    results.bar(Bar("epochs in the run", len(history), 2, at_least=True))
    results.bar(Bar("losses that are not finite", sum(not np.isfinite(value) for value in history.values()), 0))
    results.bar(Bar("the run ended well", float(found.info.status == "FINISHED"), 1, at_least=True))
    precision = found.data.params.get("forward_precision", "not told")
    results.fact("precision of the forward pass", precision)
    results.fact("GPU, as the run names it", found.data.tags.get("transect.gpu", "not told"))
    watched = sorted(name for name in found.data.metrics if name.startswith("system/gpu"))
    results.fact("metrics of the GPU in the run", ", ".join(watched) or "none")
    if not place.rehearse:
        results.bar(Bar("trained in half precision", float(precision == "fp16"), 1, at_least=True))
        results.bar(Bar("metrics of the GPU in the run", len(watched), 1, at_least=True))
    return f"Killed in its second epoch, the training went on and ended; forward precision {precision}."


def write_spots(root: Path, *, train: int, val: int = 16) -> Path:
    """A training set of a pale and a dark species, as rectangles on noise; returns its data.yaml."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for split, count in (("train", train), ("val", val), ("test", 8)):
        for number in range(count):
            pixels = rng.integers(90, 130, (_SIDE, _SIDE, 3), dtype=np.uint8)
            rows = []
            for species, shade in enumerate((240, 10)):
                width, height = (int(side) for side in rng.integers(_SIDE // 10, _SIDE // 4, 2))
                x, y = int(rng.integers(0, _SIDE - width)), int(rng.integers(0, _SIDE - height))
                pixels[y : y + height, x : x + width] = shade
                box = (x + width / 2, y + height / 2, width, height)
                rows.append(f"{species} " + " ".join(f"{value / _SIDE:.6f}" for value in box))
            image, label = (
                root / kind / split / f"{number}.{end}" for kind, end in (("images", "png"), ("labels", "txt"))
            )
            for path in (image, label):
                path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(image)
            label.write_text("\n".join(rows) + "\n", encoding="ascii")
    data = root / "data.yaml"
    data.write_text("train: images/train\nval: images/val\ntest: images/test\nnames: [pale, dark]\n", encoding="ascii")
    return data
