"""The result folder of a census: locked by one process at a time, and cleared of partial files of killed ones."""

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
def lock_result_folder(out: Path) -> Iterator[None]:
    """Lock the result folder `out`, made when missing, for the length of a `with` block.

    Files made meanwhile are readable by their owner alone, since they contain positions of animals.

    Raises InputError where another census has the lock, and where the folder cannot be written.
    """
    with ExitStack() as held:
        held.enter_context(private_files())
        with explain_write_errors(out):
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
def explain_write_errors(out: Path | str) -> Iterator[None]:
    """Turn an OSError of the block into an InputError that names the file and the remedy."""
    try:
        yield
    except OSError as error:
        place = f" ({error.filename})" if error.filename else ""
        raise InputError(
            f"Results cannot be written to {out}{place}: {error.strerror or error}. What was found so far is kept; "
            "mend that and run the same command again, or give another --out."
        ) from error
