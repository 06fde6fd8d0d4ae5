"""The scripts of examples/ do what they say, each as a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tiny_datasets import write_spots_dataset
from transect.registry import connect
from transect.settings import load_settings
from transect.synth import make_survey

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
_RECIPE = "train: {epochs: 1, imgsz: 64, batch: 4, plots: false}\nprecision: {int8: false, bf16: false}\n"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def run(name: str, *arguments: Path, home: Path) -> str:
    """What an example prints."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("TRANSECT_", "MLFLOW_"))}
    environment = {**kept, "TRANSECT_HOME": str(home), "TRANSECT_PRETRAINED": "none", "TRANSECT_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *map(str, arguments)],
        env=environment,
        cwd=home.parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_the_registry_is_used(home: Path, dot_package: Path, tmp_path: Path) -> None:
    registry = connect(load_settings({"TRANSECT_HOME": str(home)}, env_file=None))
    run_id = registry.client.create_run(registry.experiment("examples")).info.run_id
    version = registry.register(dot_package, run_id, tags={"transect.map50": "0.9"}).version
    registry.client.set_registered_model_alias("detector", "production", version)
    photo = tmp_path / "photo.png"
    picture = Image.new("RGB", (64, 64), "black")
    picture.paste("red", (20, 20, 28, 28))
    picture.save(photo)
    said = run("use_the_registry.py", photo, home=home)
    assert "version 1: candidate, production" in said
    assert said.endswith("animals by detector version 1\n")


def test_a_survey_is_counted(home: Path, dot_package: Path, tmp_path: Path) -> None:
    survey = tmp_path / "my survey"
    make_survey(survey, frames=2, seed=1)
    said = run("count_a_survey.py", survey, dot_package, tmp_path / "out", home=home)
    assert "seen, detector" in said
    assert (tmp_path / "out").is_dir()
    # Nobody asked for a run.
    assert not (home / "mlflow.db").exists()


def test_a_model_is_trained(home: Path, tmp_path: Path) -> None:
    data = write_spots_dataset(tmp_path / "spots", images=4, size=64)
    recipe = tmp_path / "notebook.yaml"
    recipe.write_text(_RECIPE)
    said = run("train_in_a_notebook.py", data, recipe, home=home)
    assert said.startswith("version 1: {")
    assert said.endswith(" is FINISHED\n")
