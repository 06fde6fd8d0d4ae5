"""One NVIDIA GPU, unattended, in less than eight minutes: is it right, how fast is it, what does it survive.

    python -m benchmarks.gpu [--out FOLDER] [--only STEP ...] [--rehearse] [--markdown]
    python benchmarks/gpu.py --bundle FILE.py

Each step runs in a process of its own within its own time, so that none ends the others. What a step finds is in
FOLDER/results.jsonl at once; tables are in FOLDER/report.md at the end. A step that lacks a package says so and is
skipped. --rehearse goes through the same steps on a CPU, which proves that they run and measures no GPU. --bundle
writes all of it, with a model, as one file that needs nothing of this project. Exits with 1 when a step failed, and
with 2 when there is no GPU.
"""

import argparse
import importlib
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

if not __package__:
    # Started as a file: what it imports lies beside its folder.
    _root = Path(__file__).resolve().parents[1]
    sys.path[:1] = [str(_root), str(_root / "services")]

from benchmarks.gpu_place import BUNDLED, ROOT, Place
from benchmarks.gpu_report import Outcome, Results, Skipped, one_line, outcomes, read_results, report
from benchmarks.processes import clean_environment, stop_group, tail

TOTAL_S = 450.0
"""Seconds for all steps, which is the sum of theirs; the search for a GPU comes before, the report after."""

REHEARSAL_FACTOR = 2
"""A CPU takes longer over the same."""

_LEAST_S = 5.0


@dataclass(frozen=True)
class Step:
    """`work` is "module:function" of this folder, in a process that is stopped after `budget_s` seconds."""

    name: str
    work: str
    budget_s: float


# What tells most comes first: time may run out.
STEPS = (
    Step("machine", "gpu_machine:machine", 30),
    Step("model", "gpu_machine:model", 40),
    Step("numbers", "gpu_engine:numbers", 35),
    Step("batches", "gpu_engine:batches", 40),
    Step("callers", "gpu_engine:callers", 30),
    Step("turns", "gpu_turns:turns", 55),
    Step("busy", "gpu_engine:busy", 25),
    Step("full memory", "gpu_faults:full_memory", 30),
    Step("no GPU", "gpu_faults:no_gpu", 20),
    Step("wrong GPU", "gpu_faults:wrong_gpu", 25),
    Step("read-only root", "gpu_faults:read_only", 30),
    Step("training", "gpu_training:training", 90),
)


def main() -> int:
    arguments = _parser().parse_args()
    if arguments.step:
        return run_step(arguments.step, _place(arguments), arguments.out / "results.jsonl")
    try:
        arguments.out.mkdir(parents=True, exist_ok=True)
        arguments.out = arguments.out.resolve()
        if arguments.bundle:
            return _bundle(arguments.bundle, arguments.out)
        (arguments.out / "results.jsonl").write_bytes(b"")
    except OSError as error:
        print(f"{error.filename} cannot be written: {error.strerror}; name another place.", file=sys.stderr)
        return 2
    if not arguments.rehearse and (why := _why_no_gpu()):
        print(f"There is no GPU to measure here: {why}. --rehearse runs the steps on the CPU.", file=sys.stderr)
        return 2
    steps = [step for step in STEPS if not arguments.only or step.name in arguments.only]
    with tempfile.TemporaryDirectory(prefix="bench-gpu-", ignore_cleanup_errors=True) as scratch:
        try:
            run_steps(steps, arguments, Path(scratch))
        except KeyboardInterrupt:
            print(f"Stopped; what was found until then is in {arguments.out}.", file=sys.stderr)
            return 130
    lines = read_results(arguments.out / "results.jsonl")
    found = report(lines)
    (arguments.out / "report.md").write_text(found.show(markdown=True) + "\n", encoding="utf-8")
    print(found.show(markdown=arguments.markdown))
    return int(any(one.status == "failed" for one in outcomes(lines)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/bench/gpu"), help="folder for results and logs")
    names = [step.name for step in STEPS]
    parser.add_argument("--only", nargs="+", choices=names, metavar="STEP", help=f"of {', '.join(names)}")
    parser.add_argument("--rehearse", action="store_true", help="on the CPU; the figures are none of a GPU")
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--bundle", type=Path, metavar="FILE", help="write all of it as one file, and measure nothing")
    parser.add_argument("--step", choices=names, help=argparse.SUPPRESS)
    parser.add_argument("--scratch", type=Path, help=argparse.SUPPRESS)
    return parser


def _place(arguments: argparse.Namespace) -> Place:
    return Place(_model_folder(arguments.out), arguments.scratch, arguments.rehearse)


def _model_folder(out: Path) -> Path:
    return BUNDLED if BUNDLED.is_dir() else out / "model"


def _why_no_gpu() -> str:
    """As gpu_machine says it, in a process of its own: this one stays free of CUDA."""
    asked = "from benchmarks.gpu_machine import why_no_gpu; print(why_no_gpu())"
    try:
        done = subprocess.run(
            [sys.executable, "-c", asked], env=_environment(), capture_output=True, text=True, timeout=60, check=False
        )
    except subprocess.TimeoutExpired:
        return "NVIDIA's driver did not answer within 60 s"
    if done.returncode:
        return f"asking for it ended with {done.returncode}: {(done.stderr.splitlines() or ['nothing was said'])[-1]}"
    return one_line(done.stdout)


def _environment() -> dict[str, str]:
    """For the steps: the modules of this project, nothing of MLflow's or our own settings, and no network."""
    kept = os.environ.get("PYTHONPATH")
    return clean_environment(
        {
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "services"), *([kept] if kept else [])]),
            "ORT_DISABLE_TELEMETRY": "1",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "YOLO_OFFLINE": "true",
            "YOLO_AUTOINSTALL": "false",
            "YOLO_VERBOSE": "false",
        }
    )


def run_steps(steps: Sequence[Step], arguments: argparse.Namespace, scratch: Path) -> None:
    """Each in a process of its own, one after the other, until `TOTAL_S` seconds are over."""
    factor = REHEARSAL_FACTOR if arguments.rehearse else 1
    end = time.monotonic() + factor * TOTAL_S
    for step in steps:
        left = end - time.monotonic()
        results = Results(arguments.out / "results.jsonl", step.name, rehearsal=arguments.rehearse)
        if left < _LEAST_S:
            results.outcome(
                Outcome(step.name, "skipped", f"The {factor * TOTAL_S:.0f} s for all steps were used up.", 0)
            )
            continue
        print(f"{step.name} ...", file=sys.stderr, flush=True)
        folder = scratch / step.name.replace(" ", "-")
        folder.mkdir()
        command = [sys.executable, "-m", "benchmarks.gpu", "--step", step.name]
        command += ["--out", str(arguments.out), "--scratch", str(folder)]
        command += ["--rehearse"] if arguments.rehearse else []
        log = arguments.out / "logs" / f"{step.name.replace(' ', '-')}.log"
        # What the others did not use is the last one's.
        limit = left if step is steps[-1] else min(factor * step.budget_s, left)
        outcome = watched(command, step.name, log, limit, results, arguments.out / "results.jsonl")
        print(f"  {outcome.status} in {outcome.seconds:.0f} s: {outcome.sentence}", file=sys.stderr, flush=True)


def watched(command: Sequence[str], name: str, log: Path, limit_s: float, results: Results, path: Path) -> Outcome:
    """Run a step's process; how it ended by its own account, or by ours where it crashed or was stopped."""
    log.parent.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, env=_environment(), stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, start_new_session=True
        )
    try:
        process.wait(limit_s)
        late = False
    except subprocess.TimeoutExpired:
        late = True
    finally:
        stop_group(process, patience_s=2)
    told = [one for one in outcomes(read_results(path)) if one.step == name]
    if told:
        return told[-1]
    seconds = time.monotonic() - start
    if late:
        sentence = f"It was not done after {limit_s:.0f} s and was stopped; its log is {log}."
    else:
        sentence = f"Its process ended with {process.returncode}; its log {log} ends with: {tail(log)[-300:]}"
    outcome = Outcome(name, "failed", one_line(sentence), seconds)
    results.outcome(outcome)
    return outcome


def run_step(name: str, place: Place, path: Path) -> int:
    """What happens in a step's process."""
    step = next(step for step in STEPS if step.name == name)
    results = Results(path, name, rehearsal=place.rehearse)

    def work() -> str:
        module, function = step.work.split(":")
        done: str = getattr(importlib.import_module(f"benchmarks.{module}"), function)(place, results)
        return done

    outcome = judged(name, work, results)
    results.outcome(outcome)
    return int(outcome.status == "failed")


def judged(name: str, work: Callable[[], str], results: Results) -> Outcome:
    """Passed when `work` gives a sentence and its bars are met; skipped without a package that it needs."""
    start = time.perf_counter()

    def ended(status: str, sentence: str) -> Outcome:
        return Outcome(name, status, one_line(sentence), round(time.perf_counter() - start, 2))  # type: ignore[arg-type]

    try:
        sentence = work()
    except Skipped as error:
        return _after_bars("skipped", str(error), results, ended)
    except ImportError as error:
        if str(error.name).startswith(("transect", "benchmarks")):
            traceback.print_exc()
            return ended("failed", f"{error}.")
        return ended("skipped", f"It needs {error.name or 'a package'}, which cannot be imported here ({error}).")
    except Exception as error:  # noqa: BLE001 - the other steps go on, whatever it was; the log has the rest
        traceback.print_exc()
        return ended("failed", f"{type(error).__name__}: {error}")
    return _after_bars("passed", sentence, results, ended)


def _after_bars(status: str, sentence: str, results: Results, ended: Callable[[str, str], Outcome]) -> Outcome:
    if results.missed:
        return ended("failed", f"Not met: {'; '.join(results.missed)}.")
    return ended(status, sentence)


def _bundle(target: Path, out: Path) -> int:
    from benchmarks.gpu_bundle import write_bundle
    from benchmarks.gpu_machine import has_model, make_model

    folder = _model_folder(out)
    if not has_model(folder):
        print("Making the model and its pictures ...", file=sys.stderr, flush=True)
        try:
            make_model(folder)
        except Skipped as error:
            print(error, file=sys.stderr)
            return 2
    size = write_bundle(target, folder)
    print(f"{target}: {size / 2**20:.0f} MiB. On the machine with the GPU: python {target.name} --out FOLDER")
    return 0


if __name__ == "__main__":
    sys.exit(main())
