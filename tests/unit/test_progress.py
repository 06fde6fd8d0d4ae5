import pytest

from transect.progress import Pace, progress


def test_a_log_gets_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("Detecting", 3, unit="frames") as advance:
        for _ in range(3):
            advance(note="2 animals")
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("Detecting: 3/3 frames, ")
    assert lines[-1].endswith("2 animals")
    assert "\x1b" not in "".join(lines)


def test_an_error_inside_passes_through() -> None:
    with pytest.raises(KeyError, match="lost"), progress("Detecting", 3):
        raise KeyError("lost")


def test_what_an_earlier_run_did_tells_nothing_of_the_rate() -> None:
    pace = Pace(1000, now=0.0)
    for step in range(900):
        pace.advance(1, now=(step + 1) * 0.001, resumed=True)
    assert (pace.rate, pace.left_s) == (None, None)
    for step in range(10):
        pace.advance(1, now=0.9 + (step + 1) * 2, resumed=False)
    assert pace.rate == pytest.approx(0.5)
    assert pace.left_s == pytest.approx(180)


def test_a_log_of_resumed_work_gives_no_rate(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("Detecting", 2) as advance:
        advance(2, resumed=True)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("Detecting: 2/2 images in ")


def test_a_terminal_gets_a_bar_with_rate_and_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "160")
    with progress("Detecting", 2) as advance:
        advance(resumed=True)
        advance()
    shown = capsys.readouterr().err
    assert "2/2" in shown
    assert "images/s, 0:00:00 left" in shown
