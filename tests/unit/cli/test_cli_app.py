import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from transect import __version__

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(transect: Run) -> Run:
    return transect


def test_help_names_every_command(run: Run) -> None:
    code, out, _ = run("--help")
    assert code == 0
    for command in ("train", "models", "detect", "serve", "census", "synth", "demo", "settings"):
        assert f" {command} " in out


def test_version(run: Run) -> None:
    assert run("--version")[:2] == (0, f"{__version__}\n")


def test_a_misspelt_variable_stops_the_program(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRANSECT_TIEL", "640")
    code, _, err = run("models", "list")
    assert code == 2
    assert err == "transect: Environment variable TRANSECT_TIEL is not one of Transect's; did you mean TRANSECT_TILE?\n"


def test_a_failure_is_one_line_without_a_traceback(run: Run, tmp_path: Path) -> None:
    code, _, err = run("census", "run", str(tmp_path / "nowhere"))
    assert code == 2
    assert err.startswith("transect: ")
    assert "nowhere" in err
    assert err.count("\n") == 1


def test_an_empty_store_gives_advice(run: Run, tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "a.jpg")
    code, _, err = run("detect", "a.jpg", "--model", "models:/detector@production")
    assert code == 4
    assert "train one" in err
    assert err.count("\n") == 1
    assert not (tmp_path / "mlruns").exists()


def test_settings_lists_every_variable(run: Run) -> None:
    code, out, _ = run("settings", "--env")
    assert code == 0
    assert "\n# TRANSECT_POLL_SECONDS=5.0\n" in out
    assert "\nPOSTGRES_PASSWORD=\n" in out


def test_a_file_that_is_no_image_is_listed_and_others_are_searched(run: Run, tmp_path: Path, dot_package: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").write_text("not a picture")
    code, out, err = run("detect", "b.jpg", "a.jpg", "--model", str(dot_package))
    bad, good = [json.loads(line) for line in out.splitlines()]
    assert code == 2
    assert "1 of 2" in err
    assert "b.jpg" in bad["failure"]
    assert (good["image"], good["failure"]) == ("a.jpg", None)


def test_synth_dataset_prints_where_it_is(run: Run, tmp_path: Path) -> None:
    code, out, _ = run("synth", "dataset", "made", "--train", "1", "--val", "1", "--test", "1", "--tile", "64")
    assert code == 0
    assert Path(out.strip()) == Path("made/data.yaml")
    assert len(list((tmp_path / "made").rglob("*.jpg"))) == 3
