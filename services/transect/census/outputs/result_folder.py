"""The folder that a census works in: held by one process at a time, and free of what killed ones left half written."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from transect.errors import InputError
from transect.files import locked_if_free, private_files, remove_partial

_LOCK = ".lock"
# The folders that a census makes: work/KEY/XX of search_frames, and RUN.
_KEPT = "work/*/[0-9a-f][0-9a-f]"
_RUN = "[0-9a-f]" * 12


@contextmanager
def alone_in(out: Path) -> Iterator[None]:
    """Hold the result folder `out`, made when missing, for the length of a `with` block.

    What is made meanwhile is for its owner alone, since it says where animals are.

    Raises InputError where another census holds it, and where it cannot be written.
    """
    with ExitStack() as held:
        held.enter_context(private_files())
        with writing_to(out):
            out.mkdir(parents=True, exist_ok=True)
            free = held.enter_context(locked_if_free(out / _LOCK))
            if free:
                for folder in (*out.glob(_KEPT), *out.glob(_RUN)):
                    remove_partial(folder)
        if not free:
            raise InputError(
                f"Another census is writing to {out}; wait until it has ended, or give this one another --out."
            )
        yield


@contextmanager
def writing_to(out: Path) -> Iterator[None]:
    """Raise InputError, with what to do, for a file below `out` that the block cannot write."""
    try:
        yield
    except OSError as error:
        place = f" ({error.filename})" if error.filename else ""
        raise InputError(
            f"Results cannot be written to {out}{place}: {error.strerror or error}. What was found so far is kept; "
            "mend that and run the same command again, or give another --out."
        ) from error
