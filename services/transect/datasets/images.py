"""Find the image files of a training set, and check that they are complete."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from transect.datasets.labels import label_path
from transect.errors import DatasetError, ImageError
from transect.imagery import inspect_picture
from transect.pictures.files import Aside, find_pictures
from transect.pictures.jpeg import is_whole
from transect.pictures.kinds import READ_SUFFIXES
from transect.wording import count_of

# A training decodes several whole pictures at a time, with 3 bytes per pixel.
_MOST_PIXELS = 180_000_000
_MOST_LISTED = 3


@dataclass(frozen=True)
class Listing:
    """The distinct images of a split, files left out, and unusable pictures."""

    images: tuple[Path, ...]
    left_out: tuple[Aside, ...] = ()
    unusable: tuple[Aside, ...] = ()

    @classmethod
    def of(cls, parts: Iterable[Self]) -> Self:
        """Merge the listings of several sources."""
        kept = list(parts)
        return cls(
            tuple(dict.fromkeys(image for part in kept for image in part.images)),
            tuple(dict.fromkeys(one for part in kept for one in part.left_out)),
            tuple(dict.fromkeys(one for part in kept for one in part.unusable)),
        )

    def remarks(self, split: str) -> list[str]:
        """A sentence for each kind of file that is not used, with the number of files."""
        # Files that are no pictures, such as labels, need no remark.
        reasons = Counter(one.reason for one in self.left_out if not one.reason.startswith("no picture"))
        found = [
            f"{split}: {count_of(count, 'file is', 'files are')} left out ({reason})."
            for reason, count in sorted(reasons.items())
        ]
        if self.unusable:
            first = self.unusable[0]
            pictures = count_of(len(self.unusable), "picture without a label is", "pictures without a label are")
            found.append(f"{split}: {pictures} not used, such as {first.path}, which {first.reason}.")
        return found


def require_usable(listing: Listing, split: str, sources: Sequence[str]) -> None:
    """Raise DatasetError if a picture with labels or of a supported kind is unusable, or if the `sources` of the split
    have no picture.
    """
    wanted = [
        one
        for one in listing.unusable
        if one.path.suffix.lower() in READ_SUFFIXES or one.path.is_symlink() or label_path(one.path).is_file()
    ]
    if wanted:
        named = "; ".join(f"{one.path} {one.reason}" for one in wanted[:_MOST_LISTED])
        more = f"; and {len(wanted) - _MOST_LISTED} more" if len(wanted) > _MOST_LISTED else ""
        raise DatasetError(f"the {split} split has {count_pictures(len(wanted))} that cannot be used: {named}{more}.")
    if not listing.images:
        raise DatasetError(f"the {split} split is empty; no images in {', '.join(sources)}.")


def count_pictures(pictures: int) -> str:
    """A number of pictures in words."""
    return "a picture" if pictures == 1 else f"{pictures} pictures"


def first_few(problems: Sequence[str]) -> str:
    """The first of several sentences, and the number of others."""
    more = f" ({len(problems) - _MOST_LISTED} more like this.)" if len(problems) > _MOST_LISTED else ""
    return f"{' '.join(problems[:_MOST_LISTED])}{more}"


def list_images(source: Path, root: Path) -> Listing:
    """Images of one source: a folder (searched to any depth), an image, or a text file of paths.

    Lines of a text file that begin with `./` are relative to that file; other relative lines are
    relative to the dataset's `root`, or as a fallback to the file. Raises DatasetError if `source` is
    missing or a line's file does not exist.
    """
    if source.is_dir():
        found = find_pictures(source, DatasetError)
        return Listing(found.pictures, found.left_out, found.unusable)
    if not source.is_file():
        raise DatasetError(f"{source} does not exist; give a folder of images, or a text file that lists them.")
    if source.suffix.lower() in READ_SUFFIXES:
        return Listing((source,))
    return Listing(tuple(sorted(_listed(source, root))))


def image_size(path: Path) -> tuple[int, int]:
    """Width and height in pixels after EXIF orientation, from the header alone.

    Raises DatasetError if the file is not an image, or is too large to train on whole.
    """
    try:
        facts = inspect_picture(path)
    except ImageError as error:
        raise DatasetError(f"{error} Replace it or take it out of the set.") from error
    if facts.width * facts.height > _MOST_PIXELS:
        raise DatasetError(f"{path} is too large to train on whole; cut it into tiles.")
    return facts.width, facts.height


def check_whole(path: Path, content: bytes) -> None:
    """Raise DatasetError for a truncated JPEG or PNG file; only a missing end marker is accepted.

    OpenCV silently fills the missing part with grey, so a training would use a truncated picture.
    """
    whole = True
    if content.startswith(b"\xff\xd8"):
        whole = is_whole(content)
    elif content.startswith(b"\x89PNG"):
        whole = content.rfind(b"IEND") > 0
    if not whole:
        raise DatasetError(f"{path} is truncated. Replace it or take it out of the set.")


def _listed(source: Path, root: Path) -> list[Path]:
    try:
        lines = source.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DatasetError(f"{source} is neither a folder, an image nor a text file of image paths.") from error
    images, missing = [], []
    for number, raw in enumerate(lines, start=1):
        line = raw.strip()
        if not line:
            continue
        candidates = _candidates(line, source.parent, root)
        image = next((one for one in candidates if one.is_file()), None)
        if image is None:
            missing.append(f"line {number}: {candidates[0]} does not exist")
        else:
            images.append(image)
    if missing:
        more = f", and neither do those of {len(missing) - 1} other lines" if len(missing) > 1 else ""
        raise DatasetError(f"{source}, {missing[0]}{more}.")
    return images


def _candidates(line: str, beside: Path, root: Path) -> Sequence[Path]:
    """Possible paths of the picture of a line, the likeliest first."""
    name = line.replace("\\", "/")
    if line.startswith("./"):
        return [beside / line, root / line]
    # CVAT writes data/ before the names of its archive's folders.
    return [root / line, root / name, beside / name, root / name.removeprefix("data/")]
