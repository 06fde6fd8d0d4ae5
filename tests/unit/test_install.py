"""The progress line of an installation: uv's bars summed, and uv's output when it fails."""

import io
import sys

import pytest
from install import Seen, install, sentence

# As uv draws on a terminal: each bar in a line that is filled with blanks to its end, and drawn over.
_SCREEN = (
    "Using Python 3.11.7 environment at: /tmp/v\r\n"
    "\u2819 Resolving dependencies...   \r\x1b[2K\u283c numpy==2.4.6     \r\x1b[2KResolved 3 packages in 668ms\r\n"
    "\u280b Preparing packages... (0/3)     \x1b[1A\r\x1b[2K\u2819 Preparing packages... (1/3)    \r\n"
    "numpy                ------------------------------ 7.89 KiB/16.00 MiB   \r\n"
    "torch                ------------------------------ 100.00 MiB/1.00 GiB   "
)


def test_bars_are_added_up_and_named() -> None:
    seen = Seen()
    for first in range(0, len(_SCREEN), 7):  # cut anywhere
        seen.read(_SCREEN[first : first + 7])
    seen.close()
    assert (seen.ready, seen.packages, seen.looked_up) == (1, 3, {"numpy"})
    assert seen.bars == {"numpy": (7.89 * 2**10, 16 * 2**20), "torch": (100 * 2**20, 2**30)}
    assert sentence(seen, 1e6) == (
        "Installing: 1 of 3 packages ready, 105 of 1,091 MB downloaded, 1.0 MB/s, 16 min left, torch"
    )
    # A bar that is gone, because its package is there, does not take back what was downloaded.
    seen.read("numpy                ------------------------------ 16.00 MiB/16.00 MiB \r\n\u2819 Preparing (2/3)\r\n")
    assert seen.downloaded == (16 + 100) * 2**20
    seen.read("\u2588\u2591 [2/3] torch==2.15.0    \r\n + numpy==2.4.6\r\n")
    assert sentence(seen, 0.0) == "Installing: 2 of 3 packages are in place"
    assert list(seen.messages) == []


def test_before_the_first_output_it_shows_the_current_step() -> None:
    seen = Seen()
    seen.read("\u283c affine==3.0.1    \r\x1b[2K\u283c boto3==1.43     \r")
    seen.read("\r\n")
    assert sentence(seen, 0.0) == "Installing: asking the package index, 2 packages found so far"


def _python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_a_failure_is_shown_whole_and_keeps_its_code() -> None:
    out = io.StringIO()
    code = "import sys; print(' + a==1\\nerror: no such package\\n  Caused by: nothing'); sys.exit(2)"
    assert install(_python(code), out) == 2
    assert out.getvalue().splitlines()[-2:] == ["error: no such package", "  Caused by: nothing"]
    assert "a==1" not in out.getvalue()


def test_a_log_gets_plain_lines_and_no_list_of_packages() -> None:
    out = io.StringIO()
    code = "print('\u2819 Preparing packages... (1/2)'); print('Installed 2 packages in 3ms'); print(' + a==1')"
    assert install(_python(code), out) == 0
    lines = out.getvalue().splitlines()
    assert lines[-1].startswith("2 packages are in place (")
    assert all("a==1" not in line and "\x1b" not in line and "\r" not in line for line in lines)


def test_a_program_that_is_not_there_is_an_error() -> None:
    with pytest.raises(FileNotFoundError):
        install(["/no/such/uv"], io.StringIO())
