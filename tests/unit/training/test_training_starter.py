import zipfile
from pathlib import Path
from typing import Any

import torch

from transect.training.config.pretrained import STARTER
from transect.training.config.safe_load import load_checkpoint
from transect.training.config.starter import write_starter


def _text(path: Path) -> bytes:
    with zipfile.ZipFile(path) as archive:
        return b"".join(archive.read(name) for name in archive.namelist() if name.endswith(".pkl"))


def test_the_starter_keeps_the_model_and_forgets_the_machine(checkpoint: Path, tmp_path: Path) -> None:
    from ultralytics.models.yolo import YOLO

    trained = tmp_path / "a-secret-place" / "best.pt"
    trained.parent.mkdir()
    source: Any = YOLO(checkpoint)
    source.model.args = {"data": str(tmp_path / "data.yaml"), "epochs": 3}
    source.ckpt = {"train_args": source.model.args}
    source.save(trained)
    target = write_starter(trained, tmp_path / "starter" / "s.pt")
    assert str(tmp_path).encode() not in _text(target)
    kept, original = load_checkpoint(target), load_checkpoint(trained)
    assert kept.yaml == original.yaml
    assert kept.names == original.names
    for name, tensor in original.state_dict().items():
        torch.testing.assert_close(kept.state_dict()[name], tensor, rtol=1e-3, atol=1e-3)


def test_the_starter_in_the_package_is_a_detector_and_names_no_machine() -> None:
    model = load_checkpoint(STARTER)
    assert set(model.names.values()) == {"sheep", "buffalo", "zebra"}
    for place in (b"/home/", b"/root/", b"/tmp/", b"/work/"):
        assert place not in _text(STARTER)
