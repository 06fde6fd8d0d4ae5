"""The command `transect census run`, as real processes that are killed, stopped, starved of disk and run at once."""

import csv
import itertools
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from cli_process import CliProcess, start
from kept_parts import kept_looks
from rotation import DAYS, turn_of_the_day
from transect.census.ground.geometry import Grid
from transect.registry import connect
from transect.settings import load_settings

# The last of them is faint: it scores 0.16, and is a candidate.
COLOURS = np.array([(0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255), (40, 0, 0)], np.uint8)
# A square of 8 px is what the model finds, on a grid of 8 px; at 256 m one pixel is 0.5 m.
CELL, COLUMNS, ROWS, GSD = 8, 96, 80, 0.5
TRANSECTS, PHOTOS, STEP = 4, 10, 60
TOTAL = TRANSECTS * PHOTOS
KILLS = 20
GRID = Grid(32736)
# The tiles of 64 px must begin on the model's grid too.
CONFIG = "overlap: 16\nthumbnails: 2\n"
SURVEY = """\
camera: {sensor_width_mm: 13.2, focal_mm: 8.8}
strata: [{name: plain, area_km2: 12}]
"""
# What may differ: when a file was made.
MADE = re.compile(rb"20\d\d-\d\d-\d\d(T[\d:+]+)?")


def fly(folder: Path) -> Path:
    """A survey of `TOTAL` photos on transects flown north; animals stand in two or three photos each."""
    rng = np.random.default_rng(5)
    rows = ["image,lat,lon,height_agl_m,yaw_deg,time"]
    for transect in range(TRANSECTS):
        strip = np.zeros(((PHOTOS - 1) * STEP + ROWS, COLUMNS), np.int64)
        places = strip[1::3, 1::3]
        places[:] = (rng.random(places.shape) < 0.03) * rng.integers(1, len(COLOURS), places.shape)
        for number in range(PHOTOS):
            cells = strip[number * STEP : number * STEP + ROWS][::-1]
            picture = np.kron(COLOURS[cells].transpose(2, 0, 1), np.ones((1, CELL, CELL), np.uint8)).transpose(1, 2, 0)
            name = f"T{transect + 1}/{number:02}.png"
            path = folder / "images" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.ascontiguousarray(picture)).save(path, compress_level=1)
            xy = np.array([[500_000 + transect * 900, 9_830_000 + number * STEP * CELL * GSD]])
            lon, lat = GRID.inverse(xy)[0]
            rows.append(f"{name},{lat:.9f},{lon:.9f},256,0,2026-07-14T09:{transect:02}:{number:02}")
    (folder / "flights.csv").write_text("\n".join(rows) + "\n")
    (folder / "survey.yaml").write_text(SURVEY)
    return folder


@dataclass(frozen=True)
class Bench:
    """A folder with a home, a result folder, and the command that counts the survey into it."""

    folder: Path
    survey: Path
    package: Path

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def start(self, *, limit: int | None = None) -> CliProcess:
        """Run the census in a process group of its own; no file of it may pass `limit` bytes."""
        config = self.folder / "census.yaml"
        config.write_text(CONFIG)
        for name in ("home", "scratch"):
            (self.folder / name).mkdir(exist_ok=True)
        return start(
            *("census", "run", self.survey, "--out", self.out, "--model", self.package, "--config", config),
            env=os.environ | {"TRANSECT_HOME": str(self.folder / "home"), "TMPDIR": str(self.folder / "scratch")},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            new_session=True,
            file_size_limit=limit,
        )

    def finish(self) -> tuple[str, str]:
        """Run the census to its end; what it wrote to standard output and standard error."""
        process = self.start()
        told, log = process.communicate(timeout=300)
        assert process.returncode == 0, log
        return told, log

    def refused(self, *, limit: int | None = None) -> str:
        """Run a census that cannot be made; its one sentence."""
        process = self.start(limit=limit)
        _, log = process.communicate(timeout=300)
        assert process.returncode == 2, log
        return the_sentence(log)

    def found(self) -> dict[str, str]:
        """What is kept of each photo that was searched. Each is found once: that is checked too."""
        looks = [(look, content) for look, content in kept_looks(self.out / "work") if content]
        assert len({look.name for look, _ in looks}) == len(looks)
        return {look.name: json.dumps(content) for look, content in looks}

    def results(self) -> Path:
        (manifest,) = self.out.glob("*/manifest.json")
        return manifest.parent

    def runs(self) -> list[tuple[str, str]]:
        """Id and status of the census runs in MLflow."""
        registry = connect(load_settings({"TRANSECT_HOME": str(self.folder / "home")}, None))
        runs = registry.client.search_runs([registry.experiment("census")])
        return [(run.info.run_id, run.info.status) for run in runs]


def the_sentence(log: str) -> str:
    """The one line in which the command says why it ended."""
    assert "Traceback" not in log
    (line,) = [line for line in log.splitlines() if line.startswith("transect: ")]
    assert log.rstrip().endswith(line)
    return line


def searched(log: str) -> int:
    """How many photos a run says that it searched itself."""
    found = re.search(r"^(\d+) photos? searched, \d+ found earlier\.$", log, re.MULTILINE)
    assert found, log
    return int(found[1])


def wait(process: CliProcess, condition: Callable[[], object]) -> None:
    """Until the condition holds or the process has ended."""
    while process.poll() is None and not condition():
        time.sleep(0.002)


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a result folder without the times of their making."""
    files = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    manifest = json.loads(files.pop("manifest.json"))
    del manifest["created_at"]
    return files | {
        "report.html": MADE.sub(b"", files["report.html"]),
        "manifest.json": json.dumps(manifest).encode(),
    }


def names(folder: Path) -> set[str]:
    """The files below a folder, but for those of what is kept, whose names say who wrote them."""
    files = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {path.as_posix() for path in files if path.parts[0] != "work"}


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fly(tmp_path_factory.mktemp("surveys") / "flight")


@pytest.fixture(scope="module")
def whole(survey: Path, dot_package: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A census that nobody disturbed."""
    bench = Bench(tmp_path_factory.mktemp("whole"), survey, dot_package)
    _, log = bench.finish()
    assert searched(log) == TOTAL
    return bench


@pytest.fixture
def bench(survey: Path, dot_package: Path, tmp_path: Path) -> Bench:
    return Bench(tmp_path, survey, dot_package)


def moments(bench: Bench) -> Iterator[Callable[[], object]]:
    """When to pull the plug: states to wait for, spread over a run's start, its search, its writing and its logging.

    Each is a question that is asked after the start, and true as soon as the state is reached. The end of a state is
    not waited for: the moments after are too short for any clock.
    """

    home, run = bench.folder / "home", "[0-9a-f]" * 12

    def number_in(folder: Path, pattern: str) -> int:
        return sum(1 for path in folder.glob(pattern) if path.is_file())

    def more(folder: Path, pattern: str, number: int) -> Callable[[], object]:
        """Whether `number` files more match than now."""
        wanted = number_in(folder, pattern) + number
        return lambda: number_in(folder, pattern) >= wanted

    def found(number: int) -> Callable[[], object]:
        wanted = min(len(bench.found()) + number, TOTAL)
        return lambda: len(bench.found()) >= wanted

    yield lambda: True
    yield bench.out.is_dir
    yield (bench.out / "work").is_dir
    for number in (1, 2, 3, 4, 1, 2, 3, 5):
        yield found(number)
    yield found(TOTAL)
    for number in (1, 4, 8):
        yield more(bench.out, f"{run}/*", number)
    # What is logged is kept first, and sent then.
    for number in (1, 4):
        yield more(home, "census/*/spool/**/*", number)
    for number in (1, 2, 5):
        yield more(home, "artifacts/**/*", number)
    yield from itertools.repeat((bench.out / "work").is_dir)


def test_killed_at_twenty_moments_a_census_ends_as_if_it_had_never_been(
    whole: Bench, bench: Bench, request: pytest.FixtureRequest
) -> None:
    # Each third of the moments has its day, or all of them are tried.
    turn = turn_of_the_day() if request.config.getoption("--rotate") else None
    first, step = (0, 1) if turn is None else (turn, DAYS)
    wanted = KILLS // step
    kills, kept, stages = 0, dict[str, str](), list[int]()
    for reached in itertools.islice(moments(bench), first, 3 * KILLS, step):
        process = bench.start()
        wait(process, reached)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        kills += process.returncode == -signal.SIGKILL
        now = bench.found()
        assert kept.items() <= now.items()
        kept = now
        stages.append(len(now))
        if kills == wanted:
            break
    assert kills == wanted
    assert len({stage for stage in stages if 0 < stage < TOTAL}) >= (3 if turn is None else 1), stages

    told, log = bench.finish()
    assert searched(log) == TOTAL - len(kept)
    assert kept.items() <= bench.found().items()
    assert names(bench.out) == names(whole.out)
    assert not list((bench.folder / "scratch").iterdir())
    # There is something to be the same: animals in overlapping photos.
    with (bench.results() / "counts.csv").open(newline="") as stream:
        assert all(int(row["seen"]) > int(row["unique"]) > 100 for row in csv.DictReader(stream))
    assert pq.read_table(bench.results() / "detections.parquet")["counts"].to_pylist().count(False) > 100
    assert contents(bench.results()) == contents(whole.results())
    runs = bench.runs()
    (finished,) = [run for run, status in runs if status == "FINISHED"]
    assert f"MLflow run: {finished}" in told
    assert {status for _, status in runs} <= {"FINISHED", "KILLED", "FAILED"}

    made = {path: path.read_bytes() for path in bench.results().iterdir()}
    told, log = bench.finish()
    assert searched(log) == 0
    assert f"MLflow run: {finished}" in told
    assert bench.runs() == runs
    assert {path: path.read_bytes() for path in bench.results().iterdir()} == made


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_census_says_how_to_go_on(bench: Bench, number: signal.Signals, code: int) -> None:
    process = bench.start()
    wait(process, lambda: len(bench.found()) >= 3)
    process.send_signal(number)
    _, log = process.communicate(timeout=60)
    assert process.returncode == code
    assert the_sentence(log) == "transect: stopped; run the same command again to resume. Finished work is kept."
    assert 3 <= len(bench.found()) < TOTAL
    assert not list(bench.out.rglob(".*.part*"))


def test_two_at_once_do_not_meet_and_photos_that_change_under_way_are_named(
    bench: Bench, survey: Path, tmp_path: Path
) -> None:
    copied = tmp_path / "copy"
    subprocess.run(["cp", "-r", str(survey), str(copied)], check=True)
    bench = Bench(bench.folder, copied, bench.package)
    process = bench.start()
    wait(process, lambda: len(bench.found()) >= 3)
    process.send_signal(signal.SIGSTOP)
    try:
        assert f"Another census is writing to {bench.out}" in bench.refused()
        (copied / "images" / "T4" / "08.png").unlink()
        with (copied / "images" / "T4" / "09.png").open("ab") as photo:
            photo.write(b"more")
    finally:
        process.send_signal(signal.SIGCONT)
    _, log = process.communicate(timeout=300)
    assert process.returncode == 0, log
    with (bench.results() / "failures.csv").open(newline="") as stream:
        listed = {row["file"]: row["reason"] for row in csv.DictReader(stream)}
    assert set(listed) == {"T4/08.png", "T4/09.png"}
    assert "No such file" in listed["T4/08.png"]
    assert "T4/09.png changed while the census ran" in listed["T4/09.png"]


def test_a_survey_that_is_edited_under_way_is_refused(bench: Bench, survey: Path, tmp_path: Path) -> None:
    copied = tmp_path / "copy"
    subprocess.run(["cp", "-r", str(survey), str(copied)], check=True)
    bench = Bench(bench.folder, copied, bench.package)
    process = bench.start()
    wait(process, lambda: len(bench.found()) >= 3)
    process.send_signal(signal.SIGSTOP)
    (copied / "survey.yaml").write_text(SURVEY.replace("12", "20"))
    process.send_signal(signal.SIGCONT)
    _, log = process.communicate(timeout=300)
    assert process.returncode == 2
    assert f"survey.yaml of survey {copied} changed while the census ran" in the_sentence(log)
    assert not list(bench.out.glob("*/manifest.json"))


def test_without_room_a_census_ends_with_the_reason_and_goes_on_when_there_is(whole: Bench, bench: Bench) -> None:
    assert "File too large. What was found so far is kept" in bench.refused(limit=100)
    assert not bench.found()
    # Enough for a part of what is kept, and then for all of it, and too little for a result.
    assert "File too large" in bench.refused(limit=30_000)
    part = bench.found()
    assert 3 < len(part) < TOTAL
    assert "File too large" in bench.refused(limit=105_000)
    assert part.items() < bench.found().items()
    assert len(bench.found()) == TOTAL
    assert not list(bench.out.glob("*/manifest.json"))
    assert not list(bench.out.rglob(".*.part*"))
    _, log = bench.finish()
    assert searched(log) == 0
    assert contents(bench.results()) == contents(whole.results())


def test_what_could_not_be_logged_is_logged_by_the_same_command(
    bench: Bench, whole: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    process = bench.start()
    told, log = process.communicate(timeout=300)
    assert process.returncode == 4
    assert f"The results are in {bench.results()}; the same command again logs them too." in the_sentence(log)
    assert "Report: " in told
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    told, log = bench.finish()
    assert searched(log) == 0
    assert [status for _, status in bench.runs()] == ["FINISHED"]
    assert contents(bench.results()) == contents(whole.results())
