"""Variables of `make test` in its child processes, which tests must not see."""

import os

# `make test ARGS=...` hands its variables on to every make below it, which takes them for its own: the stack's
# `make up` would give Compose the arguments of pytest.
OF_MAKE = ("MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES", "MAKELEVEL")
EXPORTED_BY_MAKE = (
    *("PYTHON", "MODEL", "DATA", "DATA_ALSO", "EPOCHS", "CONFIG", "ARGS", "RUN", "REASON", "SURVEY", "OUT", "RUNTIME"),
    *("GPU", "LOAD_SECONDS"),
)


def forget_make() -> None:
    """Remove these variables from the environment of this process."""
    for name in (*OF_MAKE, *EXPORTED_BY_MAKE):
        os.environ.pop(name, None)
