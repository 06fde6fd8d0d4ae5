import json
from pathlib import Path

from typer.testing import CliRunner

from transect.cli.synth import app
from transect.errors import InputError
from transect.synth import SurveyDesign


def test_options_reach_the_survey(tmp_path: Path) -> None:
    options = {
        "--frames": "2", "--seed": "3", "--overlap": "0.8", "--side-overlap": "0.6", "--transects": "1",
        "--passes": "2", "--break": "60", "--height": "40", "--speed": "10", "--animal-speed": "1",
        "--gps-noise": "3", "--yaw-noise": "2", "--height-noise": "0.1",
    }  # fmt: skip
    folder = tmp_path / "made"
    result = CliRunner().invoke(app, ["survey", str(folder), *(text for pair in options.items() for text in pair)])
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[0] == f"4 frames in {folder}"
    assert json.loads((folder / "synth.json").read_text()) == {
        "generator": 4, "kind": "survey", "frames": 2, "seed": 3, "overlap": 0.8, "height_m": 40.0, "transects": 1,
        "gps_noise_m": 3.0, "yaw_noise_deg": 2.0, "height_noise_m": 0.1, "side_overlap": 0.6, "passes": 2,
        "break_s": 60.0, "speed_m_s": 10.0, "animal_speed_m_s": 1.0,
    }  # fmt: skip


def test_defaults_are_those_of_the_design(tmp_path: Path) -> None:
    assert CliRunner().invoke(app, ["survey", str(tmp_path / "made"), "--frames", "2"]).exit_code == 0
    mark = json.loads((tmp_path / "made" / "synth.json").read_text())
    assert mark == {"generator": 4, **SurveyDesign(frames=2).parameters()}


def test_what_cannot_be_flown_is_refused(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["survey", str(tmp_path / "made"), "--overlap", "1"])
    assert isinstance(result.exception, InputError)
    assert str(result.exception) == "A sample survey needs an overlap of 0 to 0.9."
