"""What a package knows for a census: how its validation images look, and its false alarms on empty ground. Pure."""

from dataclasses import dataclass

from transect.engine import PROFILE_FILE, PackageManifest


@dataclass(frozen=True)
class CensusBasis:
    """What of a model's judgement its package holds.

    `counts`: precision and recall by validation image; `profile`: what the validation images look like; `images` and
    `mpx`: the empty ground that was searched for false alarms, in pictures and megapixels (0: none).
    """

    counts: bool
    profile: bool
    images: int
    mpx: float

    @classmethod
    def of(cls, manifest: PackageManifest) -> "CensusBasis":
        """What `manifest` says of its package."""
        ground = manifest.background_counts
        return cls(
            manifest.validation_counts is not None,
            PROFILE_FILE in manifest.files,
            0 if ground is None else ground.images,
            0.0 if ground is None else ground.area_mpx,
        )

    def __str__(self) -> str:
        """In a few words, as a tag of a version has it."""
        ground = f"{self.mpx:.1f} Mpx of empty ground in {self.images} pictures" if self.images else "no empty ground"
        counts = "" if self.counts else "no validation counts, "
        return f"{counts}{'validation profile' if self.profile else 'no validation profile'}, {ground}"

    def warnings(self) -> tuple[str, ...]:
        """What a census with this package cannot know, in a sentence each."""
        said = []
        if not self.counts:
            said.append("The package holds no validation counts, so a census cannot correct for the detector's errors.")
        if not self.profile:
            said.append(
                "The package does not hold what its validation images look like, so a census cannot tell whether the "
                "detector is validated on the survey's ground; a training with this release would store it."
            )
        if not self.images:
            said.append(
                "The package knows no false alarms on empty ground, so a census of fewer or more animals than the "
                "validation images hold is not validated; give background: in the recipe."
            )
        return tuple(said)
