"""Execute a program, with the words of the environment variable ARGS after its own arguments.

usage: ARGS="--one 'and two'" python3 tools/with_args.py PROGRAM ARGUMENT ...

Quotes and backslashes in ARGS have their shell meaning; nothing is expanded or executed. Standard library only: it
runs before anything is installed. It exits with 2 and one sentence if ARGS has an open quote or the program cannot be
started.
"""

import os
import shlex
import sys


def main(command: "list[str]") -> int:
    """Execute `command` with ARGS; returns a status only if that fails."""
    arguments = os.environ.get("ARGS", "")
    try:
        words = shlex.split(arguments)
    except ValueError:
        print(
            f"transect: ARGS={arguments} ends within quotes or after a backslash; "
            "close the quotes, or write \\' and \\\\.",
            file=sys.stderr,
        )
        return 2
    try:
        os.execvp(command[0], [*command, *words])  # noqa: S606 - an argument list, no shell
    except OSError as error:
        print(f"transect: {command[0]} cannot be started ({error.strerror}).", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
