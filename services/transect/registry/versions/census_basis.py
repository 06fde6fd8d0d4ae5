"""Validation data of a package that a census uses: counts, appearance profile, false alarms on empty ground. Pure."""

from dataclasses import dataclass

from transect.engine import PROFILE_FILE, PackageManifest


@dataclass(frozen=True)
class CensusBasis:
    """The validation data that a package contains.

    `counts`: precision and recall by validation image; `profile`: appearance of the validation images; `images` and
    `mpx`: the empty ground searched for false alarms, in pictures and megapixels (0: none).
    """

    counts: bool
    profile: bool
    images: int
    mpx: float

    @classmethod
    def of(cls, manifest: PackageManifest) -> "CensusBasis":
        """The validation data of the package of `manifest`."""
        ground = manifest.background_counts
        return cls(
            manifest.validation_counts is not None,
            PROFILE_FILE in manifest.files,
            0 if ground is None else ground.images,
            0.0 if ground is None else ground.area_mpx,
        )

    def __str__(self) -> str:
        """A short description, stored as a tag of the version."""
        ground = f"{self.mpx:.1f} Mpx of empty ground in {self.images} pictures" if self.images else "no empty ground"
        counts = "" if self.counts else "no validation counts, "
        return f"{counts}{'validation profile' if self.profile else 'no validation profile'}, {ground}"

    def warnings(self) -> tuple[str, ...]:
        """The limitations of a census with this package, in a sentence each."""
        found = []
        if not self.counts:
            found.append("The package has no validation counts, so a census cannot correct for the detector's errors.")
        if not self.profile:
            found.append(
                "The package has no appearance profile of its validation images, so a census cannot tell whether the "
                "detector is validated on the survey's ground; a training with this release would store it."
            )
        if not self.images:
            found.append(
                "The package has no false alarm counts of empty ground, so a census of fewer or more animals than the "
                "validation images hold is not validated; give background: in the recipe."
            )
        return tuple(found)
