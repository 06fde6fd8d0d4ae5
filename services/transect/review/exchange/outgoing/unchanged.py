"""Whether a photo is still the one that was counted."""

from pathlib import Path

from transect.errors import ImageError
from transect.files import sha256_file


def require_unchanged(path: Path, digest: str, name: str) -> None:
    """Raise ImageError, naming the photo, unless the SHA-256 of its file is `digest`."""
    try:
        found = sha256_file(path)
    except OSError as error:
        raise ImageError(f"{name} cannot be read: {error.strerror or error}.") from error
    if found != digest:
        raise ImageError(
            f"{name} has changed since the census; put the photo of the census back, or count the survey anew."
        )
