"""PyTorch's warnings go to Ultralytics' log, and Ultralytics plots without a network."""

import socket
import warnings
from pathlib import Path

import pytest
import torch
from PIL import Image
from ultralytics.data import utils as data_utils
from ultralytics.engine import trainer
from ultralytics.utils import plotting
from ultralytics.utils.plotting import Annotator
from ultralytics.utils.torch_utils import init_seeds, unset_deterministic

from transect.training.trainer.environment import logged_to, prepare_ultralytics


def _put() -> None:
    """Let PyTorch warn: of this operation it does so on a CPU too."""
    torch.zeros(4).put_(torch.tensor([0, 1]), torch.ones(2))


def test_operations_without_a_fixed_order_are_logged_once_each(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "ultralytics.log"
    with warnings.catch_warnings(), logged_to(log):
        warnings.simplefilter("default")
        init_seeds(0, deterministic=True)
        try:
            for _ in range(3):
                _put()
                # As Ultralytics does in every epoch: Python then forgets what it has shown.
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
            warnings.warn("CuBLAS under use_deterministic_algorithms", UserWarning, stacklevel=1)
        finally:
            unset_deterministic()
    lines = log.read_text().splitlines()
    assert len(lines) == 2
    assert "WARNING put_ does not have a deterministic implementation" in lines[0]
    assert "CuBLAS" in lines[1]
    assert capsys.readouterr().err == ""


def test_other_warnings_go_where_they_went(tmp_path: Path) -> None:
    show = warnings.showwarning
    log = tmp_path / "ultralytics.log"
    with warnings.catch_warnings(record=True) as caught, logged_to(log):
        warnings.simplefilter("always")
        warnings.warn("something else", UserWarning, stacklevel=1)
    assert [str(one.message) for one in caught] == ["something else"]
    assert log.read_text() == ""
    assert warnings.showwarning is show


def test_warnings_are_as_before_after_a_training_that_failed(tmp_path: Path) -> None:
    show = warnings.showwarning
    with pytest.raises(KeyError), logged_to(tmp_path / "ultralytics.log"):
        raise KeyError
    assert warnings.showwarning is show


def test_pictures_are_drawn_without_asking_for_a_font(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        pytest.fail("the network was asked")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for example in ("sheep", "Kühe"):
        annotator = Annotator(Image.new("RGB", (64, 64)), pil=True, example=example)
        annotator.box_label([8, 24, 40, 40], example)
        assert annotator.font.getname() == ("DejaVu Sans", "Book")
    assert vars(data_utils)["check_font"] is vars(plotting)["check_font"]


def test_a_checkpoint_says_nothing_of_the_repository_and_its_remote(tmp_path: Path) -> None:
    # Ultralytics puts the address of the remote into each, with a password or token where it holds one.
    prepare_ultralytics(tmp_path)
    git = vars(trainer)["GIT"]
    assert [getattr(git, name) for name in ("root", "branch", "commit", "message", "origin")] == [None] * 5
