from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from transect.engine import Detector, ModelRef
from transect.errors import PackageError
from transect.registry import ResolvedVersion
from transect.serving.models.slot import ModelSlot, ServedModel

IMAGE = np.zeros((64, 64, 3), np.uint8)


@pytest.fixture
def served(dot_package: Path) -> Callable[[str], ServedModel]:
    def make(version: str) -> ServedModel:
        detector = Detector.open(dot_package, ref=ModelRef("detector", version, "run"), backend="onnxruntime")
        resolved = ResolvedVersion(
            name="detector", version=version, run_id="run", source="runs:/run/model", package_sha256="0" * 64
        )
        return ServedModel(detector, resolved, datetime.now(UTC), from_cache=False)

    return make


def is_closed(model: ServedModel) -> bool:
    try:
        model.detector.detect(IMAGE)
    except PackageError:
        return True
    return False


def test_an_empty_slot_has_nothing_to_lease() -> None:
    slot = ModelSlot()
    assert (slot.current, slot.lease()) == (None, None)


def test_the_old_model_is_closed_when_its_last_lease_ends(served: Callable[[str], ServedModel]) -> None:
    slot = ModelSlot()
    old, new = served("1"), served("2")
    slot.swap(old)
    first, second = slot.lease(), slot.lease()
    assert first is not None
    assert second is not None
    share = second.share()
    slot.swap(new)
    assert slot.current is new
    for lease in (first, second, share):
        assert lease.model.detector.detect(IMAGE).model.version == "1"
        lease.release()
    assert is_closed(old)
    assert not is_closed(new)
    slot.swap(None)
    assert is_closed(new)


def test_swapping_under_leases_from_many_threads_never_shows_a_closed_model(
    served: Callable[[str], ServedModel],
) -> None:
    slot = ModelSlot()
    slot.swap(served("0"))
    models = [served(str(number)) for number in range(1, 6)]
    failures: list[Exception] = []

    def use() -> None:
        for _ in range(20):
            lease = slot.lease()
            assert lease is not None
            with lease as model:
                try:
                    model.detector.detect(IMAGE)
                except Exception as error:  # noqa: BLE001 - reported by the test itself
                    failures.append(error)

    threads = [Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for model in models:
        slot.swap(model)
    for thread in threads:
        thread.join()
    slot.swap(None)
    assert failures == []
    assert all(is_closed(model) for model in models)
