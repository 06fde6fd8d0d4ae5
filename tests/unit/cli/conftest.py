"""The `transect` command, run in this process."""

import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from transect.cli import main


@pytest.fixture
def transect(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Iterator[Callable[..., tuple[int, str, str]]]:
    """transect(*arguments) runs the command in an empty folder; exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)
    handlers = list(logging.getLogger().handlers)

    def invoke(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["transect", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        said = capsys.readouterr()
        return int(caught.value.code or 0), said.out, said.err

    yield invoke
    logging.getLogger().handlers[:] = handlers
