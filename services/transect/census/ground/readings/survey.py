"""Read all photos of a survey, or some of them, each once."""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

from transect.census.ground.readings.kept import KeptReadings
from transect.census.ground.readings.reading import PhotoReading, read_photo
from transect.census.inputs.photos import Photo
from transect.imagery import Rendering
from transect.progress import progress

# Reading from a disk is work of the processor; from an object store it is waiting.
_THREADS, _REMOTE_THREADS = 4, 32


def read_photos(
    photos: Mapping[str, Photo], bands: tuple[int, ...] | None, kept: KeptReadings | None, *, remote: bool
) -> dict[str, PhotoReading]:
    """The readings of these photos by name; those in `kept` are taken from there, and others are added to it."""

    def read(name: str) -> PhotoReading:
        photo = photos[name]
        try:
            tag = photo.tag()
        except OSError:
            # Reading says the reason.
            tag = ""
        if kept is None or not tag:
            return read_photo(name, photo, bands)
        earlier = kept.find(name, tag)
        if earlier is not None:
            return earlier
        found = read_photo(name, photo, bands)
        if found.lasting:
            kept.keep(name, tag, found)
        return found

    readings = {}
    with (
        ThreadPoolExecutor(_REMOTE_THREADS if remote else _THREADS) as pool,
        progress("Reading positions", len(photos)) as advance,
    ):
        for name, found in zip(photos, pool.map(read, photos), strict=True):
            readings[name] = found
            advance()
    return readings


def shown_alike(bands: tuple[int, ...] | None, readings: Iterable[PhotoReading]) -> Callable[[PhotoReading], Rendering]:
    """How each photo's samples are shown. One depth for all: a dark map among maps of 12 bits is not one of 9 bits."""
    plain = Rendering(bands)
    alike = Rendering(bands, max((one.depth for one in readings if one.depth is not None), default=None))
    return lambda reading: plain if reading.depth is None else alike
