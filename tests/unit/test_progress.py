import pytest

from transect.progress import progress


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
