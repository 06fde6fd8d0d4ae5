"""The description of a package's validation data for a census."""

from datetime import UTC, datetime

from transect.engine import (
    MODEL_FILE,
    PROFILE_FILE,
    WEIGHTS_FILE,
    BackgroundCounts,
    PackageFile,
    PackageManifest,
    ValidationCounts,
)
from transect.registry import CensusBasis

FILE = PackageFile(sha256="0" * 64, size=1)
OLD = PackageManifest(
    names=("zebra",),
    image_size=640,
    head_kind="anchor-free",
    architecture="yolo11n",
    conf=0.3,
    iou=0.5,
    created_at=datetime(2026, 1, 2, tzinfo=UTC),
    files={MODEL_FILE: FILE, WEIGHTS_FILE: FILE},
)


def test_a_whole_package_has_no_warning() -> None:
    ground = BackgroundCounts(conf=0.3, iou=0.5, mpx=(0.5, 0.25, 0.5), counts={})
    counts = ValidationCounts(images=4, conf=0.3, iou=0.5, counts={})
    whole = OLD.model_copy(
        update={
            "validation_counts": counts,
            "background_counts": ground,
            "files": {**OLD.files, PROFILE_FILE: FILE},
        }
    )
    basis = CensusBasis.of(whole)
    assert str(basis) == "validation profile, 1.2 Mpx of empty ground in 3 pictures"
    assert basis.warnings() == ()


def test_an_old_package_is_warned_of_in_a_sentence_for_each_lack() -> None:
    basis = CensusBasis.of(OLD)
    assert str(basis) == "no validation counts, no validation profile, no empty ground"
    counts, profile, ground = basis.warnings()
    assert "cannot correct for the detector's errors" in counts
    assert "cannot tell whether the detector is validated" in profile
    assert "give background: in the recipe" in ground
