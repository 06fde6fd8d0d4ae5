"""Empty ground beside a training set: images without any animal, on which every detection is a false alarm."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from transect.datasets import Dataset, Split, check_pixels, label_path, read_rows
from transect.datasets.images import Listing, image_size, list_images, require_usable
from transect.errors import DatasetError
from transect.files import sha256_file
from transect.progress import progress

MISSING = (
    "No empty ground is given (background: FOLDER), so the package has no rate of false alarms on empty ground: a "
    "census of fewer animals than the validation images hold will count too many, and the other way round."
)


def find_background(given: Sequence[str], dataset: Dataset, recipe: Path) -> tuple[Path, ...]:
    """The images in the folders `given`, each checked; empty for no folders.

    A relative folder is looked up beside the data.yaml, then beside the recipe, then in the working directory. The
    images are decoded once. Raises DatasetError where a folder does not exist or has no image, or where an image cannot
    be read, has labels, or is the same as one of the data set.
    """
    if not given:
        return ()
    folders = [_folder(one, (dataset.path.parent, recipe.absolute().parent, Path.cwd())) for one in given]
    try:
        listing = Listing.of([list_images(folder, folder) for folder in folders])
        require_usable(listing, "background", given)
        split = Split(listing.images, (), (), tuple(image_size(image) for image in listing.images))
        with progress("Decoding empty ground", len(split.images)) as advance:
            check_pixels(split, "background", advance)
    except DatasetError as error:
        raise DatasetError(f"background: {error}") from error
    _refuse_trained(split.images, dataset)
    _refuse_labelled(split.images)
    return split.images


def _folder(given: str, places: Iterable[Path]) -> Path:
    looked = list(dict.fromkeys(place / Path(given).expanduser() for place in places))
    found = next((one for one in looked if one.is_dir()), None)
    if found is None:
        raise DatasetError(
            f"background: there is no folder {given}; looked for {', '.join(map(str, looked))}. Give a folder of "
            "pictures without any animal."
        )
    return found


def _refuse_labelled(images: Sequence[Path]) -> None:
    for image in images:
        labels = label_path(image)
        if labels.is_file() and len(read_rows(labels)):
            raise DatasetError(
                f"background: {image} has labels in {labels}, and empty ground must hold no animal; take the picture "
                "out of the folder."
            )


def _refuse_trained(images: Sequence[Path], dataset: Dataset) -> None:
    """Raise DatasetError for an image that is also in the data set; only files of equal size are hashed."""
    sizes = {_size(image) for image in images}
    alike = [(name, image) for name, split in dataset.splits.items() for image in split.images if _size(image) in sizes]
    shared = {_size(image) for _, image in alike}
    ours = {sha256_file(image): image for image in images if _size(image) in shared}
    for name, image in alike:
        twin = ours.get(sha256_file(image))
        if twin is not None:
            raise DatasetError(
                f"background: {twin} is the same picture as {image} of the {name} split; empty ground must be "
                "neither trained on nor validated with, so take it out of one of the two."
            )


def _size(image: Path) -> int:
    return image.stat().st_size
