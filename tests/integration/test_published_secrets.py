"""A secret of each kind is planted; nothing that a training, a promotion, a rollback or a census publishes has one."""

import io
import logging
import subprocess
import zipfile
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from tiny_datasets import write_spots_dataset
from transect.census import CensusConfig, load_survey, run_census
from transect.registry import connect, promote, rollback
from transect.settings import Settings, load_settings
from transect.synth import make_survey
from transect.tracking.census_log import log_census
from transect.training import TrainRequest, train

# Never one that could be real; each has a number, to tell where a leak comes from.
CANARY = "kanarienvogel"
_RECIPE = (
    "train: {epochs: 1, imgsz: 64, batch: 4, seed: 3, workers: 0, plots: false}\n"
    "precision: {int8: false, bf16: false}\n"
    f"tags: {{api_token: {CANARY}01x, mirror: 'https://ada:{CANARY}02x@example.org/data'}}\n"
)


def _git(folder: Path, *words: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True)


def _plant(place: Path) -> Path:
    """A repository with secrets in what was changed, in its remote and in its training set; the data.yaml."""
    (place / "tiny.yaml").write_text(_RECIPE)
    (place / ".gitignore").write_text("home/\nspots/\nsurvey/\nresults/\nmatplotlib/\n")
    (place / ".env.prod").write_text("A=1\n")
    (place / "code.py").write_text("a = 1\n")
    _git(place, "init")
    _git(place, "remote", "add", "origin", f"https://ada:{CANARY}03x@example.org/a.git")
    _git(place, "add", ".")
    _git(place, "commit", "-m", "a")
    (place / ".env.prod").write_text(f"A={CANARY}04x\n")
    (place / "code.py").write_text(f"a = 2\npassword = '{CANARY}05x'\n")
    (place / "plain.py").write_text("shown = True\n")
    (place / "newkey.pem").write_text(f"-----BEGIN PRIVATE KEY-----\n{CANARY}06x\n-----END PRIVATE KEY-----\n")
    (place / "token.txt").write_text(f"https://example.org/?token={CANARY}07x\n")
    (place / ".env").write_text(f"MLFLOW_TRACKING_PASSWORD={CANARY}08x\n")
    _git(place, "add", "newkey.pem", "token.txt", "plain.py")
    data = write_spots_dataset(place / "spots", images=4, size=64)
    data.write_text(f"{data.read_text()}download: |\n  curl https://example.org/{CANARY}09x\n# token: {CANARY}10x\n")
    return data


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    place = tmp_path_factory.mktemp("place")
    environment = {
        "TRANSECT_HOME": str(place / "home"),
        "TRANSECT_PRETRAINED": "none",
        "TRANSECT_THREADS": "1",
        # Even so.
        "TRANSECT_SOURCE_DIFF": "always",
        "MLFLOW_TRACKING_USERNAME": "ada",
        "MLFLOW_TRACKING_PASSWORD": f"{CANARY}11x",
        "TRANSECT_WEBHOOK_SECRET": f"{CANARY}12x",
        "TRANSECT_SWEEP_STORE": f"postgresql://ada:{CANARY}13x@db/trials",
        "TRANSECT_REVIEW_DATABASE": f"postgresql://ada:{CANARY}22x@db/reviews",
    }
    return load_settings(environment, env_file=None)


@pytest.fixture(scope="module")
def said(settings: Settings) -> str:
    """What the whole job logs; its store is in TRANSECT_HOME."""
    place = settings.home.parent
    data = _plant(place)
    lines: list[str] = []
    ids: list[str] = []
    printed = io.StringIO()
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)
    command = [
        "transect",
        "train",
        "--password",
        f"{CANARY}14x",
        f"+tags.key=ghp_{CANARY * 3}",
        f"{CANARY}15x@h".join(["a://u:", "/"]),
    ]
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(printed), redirect_stderr(printed):
        patch.chdir(place)
        patch.setattr("sys.argv", command)
        overrides = (f"+tags.db_password={CANARY}16x", f"+tags.note=https://{CANARY}17x@example.org/")
        train(TrainRequest("yolov8n", Path("tiny.yaml"), data, overrides), settings)
        registry = connect(settings)
        promote(registry, actor="ada", reason=f"as agreed, password: {CANARY}18x", force=True)
        first = registry.resolve("production")
        run_id = registry.client.create_run(registry.experiment("again")).info.run_id
        registry.register(registry.fetch(first), run_id, tags={**first.tags, "token": f"{CANARY}21x"})
        promote(registry, actor="ada", reason=f"as agreed, password: {CANARY}18x", force=True)
        rollback(registry, actor="ada", reason=f"see https://ada:{CANARY}19x@example.org/1")
        make_survey(place / "survey", frames=2)
        described = place / "survey" / "survey.yaml"
        described.write_text(f"{described.read_text()}# password: {CANARY}20x\n")
        with registry.open(registry.resolve("production")) as detector:
            run_census(
                load_survey(place / "survey"),
                out=place / "results",
                detector=detector,
                config=CensusConfig(),
                settings=settings,
                record=lambda result: ids.append(log_census(result.as_run(), settings)),
            )
    logging.getLogger().removeHandler(handler)
    assert ids
    return "\n".join([*lines, printed.getvalue()])


def _contents(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every file below, and what archives such as PyTorch's hold."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield str(path.relative_to(folder)), path.read_bytes()
            if zipfile.is_zipfile(path):
                with zipfile.ZipFile(path) as archive:
                    for name in archive.namelist():
                        yield f"{path.relative_to(folder)}!{name}", archive.read(name)


def test_no_secret_is_published(settings: Settings, said: str) -> None:
    home = settings.home
    published = dict(_contents(settings.artifacts_dir))
    published |= {path.name: path.read_bytes() for path in home.glob("mlflow.db*")}
    # The training, both verdicts, the rollback and the census are there.
    assert sum(name.endswith("changes.patch") for name in published) == 1
    assert sum(name.endswith("verdict.json") for name in published) == 2
    assert any(name.endswith("animals.geojson") for name in published)
    assert any("weights.pt!" in name and name.endswith("data.pkl") for name in published)
    assert {name: number for name, text in published.items() if (number := text.count(CANARY.encode()))} == {}
    assert said
    assert CANARY not in said


@pytest.mark.usefixtures("said")
def test_what_is_no_secret_is_published(settings: Settings) -> None:
    (patch, *_) = [text for name, text in _contents(settings.artifacts_dir) if name.endswith("changes.patch")]
    assert b"+shown = True" in patch
    for name in (b".env.prod", b"newkey.pem"):
        assert b"# left out: " + name + b", which holds secrets by its name" in patch
    assert b"# left out: a part of code.py" in patch
    (data, *_) = [text for name, text in _contents(settings.artifacts_dir) if name.endswith("config/data.yaml")]
    assert b"names: [pale, dark]\ndownload: left out by Transect\n" in data
    registry = connect(settings)
    tags = registry.client.get_run(registry.resolve("1").run_id).data.tags
    assert tags["mirror"] == "https://REDACTED@example.org/data"
    assert tags["api_token"] == tags["db_password"] == "REDACTED"
    assert tags["transect.command"].startswith("transect train --password REDACTED ")


@pytest.mark.usefixtures("said")
def test_the_results_of_a_census_hold_none_either(settings: Settings) -> None:
    results = dict(_contents(settings.home.parent / "results"))
    assert results
    assert not [name for name, text in results.items() if CANARY.encode() in text]
