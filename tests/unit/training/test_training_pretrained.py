import http.server
import pickle
import re
import socket
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from transect.errors import InputError
from transect.files import sha256_file
from transect.training.config import pretrained
from transect.training.config.architecture import Architecture, resolve_architecture
from transect.training.config.pretrained import choose_weights
from transect.training.config.safe_load import load_checkpoint

_SMALL = resolve_architecture("yolo11n")


class _Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def release_page(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A web server over a folder."""
    folder = tmp_path / "served"
    folder.mkdir()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", folder
        server.shutdown()
        thread.join()


def publish(patch: pytest.MonkeyPatch, name: str, path: Path) -> None:
    """Let `path` be what was published under `name`."""
    patch.setattr(pretrained, "PUBLISHED_SHA256", {**pretrained.PUBLISHED_SHA256, name: frozenset({sha256_file(path)})})


def test_a_download_arrives_whole(
    release_page: tuple[str, Path], checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, folder = release_page
    (folder / "a.pt").write_bytes(checkpoint.read_bytes())
    publish(monkeypatch, "a.pt", checkpoint)
    target = tmp_path / "weights" / "a.pt"
    pretrained._download(f"{url}/a.pt", target)
    assert target.read_bytes() == checkpoint.read_bytes()


def test_another_file_under_a_published_name_is_never_read(
    release_page: tuple[str, Path], checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, folder = release_page
    (folder / "yolo11n.pt").write_bytes(checkpoint.read_bytes())
    monkeypatch.setattr(pretrained, "load_checkpoint", lambda path: pytest.fail(f"{path} was read"))
    target = tmp_path / "weights" / "yolo11n.pt"
    with pytest.raises(InputError, match=r"is not the published yolo11n\.pt: its SHA-256 is"):
        pretrained._download(f"{url}/yolo11n.pt", target)
    assert list(target.parent.iterdir()) == []
    # Nor one that somebody left where downloads are kept.
    target.write_bytes(checkpoint.read_bytes())
    chosen = choose_weights(_SMALL, "auto", tmp_path)
    assert chosen.kind == "starter"
    assert "is not the published yolo11n.pt" in chosen.sentence


def test_what_has_no_known_hash_is_not_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "_download", lambda url, target: pytest.fail(f"{url} was asked for"))
    chosen = choose_weights(resolve_architecture("yolov9c"), "auto", tmp_path)
    assert chosen.path is None
    assert "no hash of yolov9c.pt; fetch it yourself and name it with TRANSECT_PRETRAINED=PATH" in chosen.sentence


def test_hashes_are_those_of_files_that_ultralytics_publishes() -> None:
    from ultralytics.utils.downloads import GITHUB_ASSETS_NAMES

    assert set(pretrained.PUBLISHED_SHA256) <= set(GITHUB_ASSETS_NAMES)
    known = [sha256 for kind in pretrained.PUBLISHED_SHA256.values() for sha256 in kind]
    assert len(set(known)) == len(known)
    assert all(re.fullmatch("[0-9a-f]{64}", sha256) for sha256 in known)


def test_what_is_no_checkpoint_is_not_kept(
    release_page: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, folder = release_page
    (folder / "a.pt").write_text("<html>Please log in to this network</html>")
    publish(monkeypatch, "a.pt", folder / "a.pt")
    target = tmp_path / "weights" / "a.pt"
    with pytest.raises(InputError):
        pretrained._download(f"{url}/a.pt", target)
    with pytest.raises(OSError, match="404"):
        pretrained._download(f"{url}/b.pt", target)
    assert list(target.parent.iterdir()) == []


def test_a_server_that_never_answers_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        start = time.monotonic()
        with pytest.raises(TimeoutError):
            pretrained._open_within(f"http://127.0.0.1:{silent.getsockname()[1]}/a.pt", 0.2)
        assert time.monotonic() - start < pretrained._STALLED_AFTER_S


def test_none_a_path_and_a_checkpoint(checkpoint: Path, tmp_path: Path) -> None:
    nothing, mine = choose_weights(_SMALL, "none", tmp_path), choose_weights(_SMALL, str(checkpoint), tmp_path)
    assert (nothing.path, nothing.sha256) == (None, "none")
    assert (mine.path, mine.sha256) == (checkpoint, sha256_file(checkpoint))
    given = Architecture("yolo11n", str(checkpoint), checkpoint)
    assert choose_weights(given, "auto", tmp_path).path == checkpoint
    assert choose_weights(given, "none", tmp_path).path is None


def test_auto_takes_what_was_downloaded_before(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(monkeypatch, "yolov8n.pt", checkpoint)
    kept = tmp_path / "weights" / "yolov8n.pt"
    kept.parent.mkdir()
    kept.write_bytes(checkpoint.read_bytes())
    chosen = choose_weights(resolve_architecture("yolov8n"), "auto", tmp_path)
    assert chosen.path == kept
    assert chosen.kind == "ultralytics"
    assert "pretrained" in chosen.sentence


def test_auto_falls_back_and_says_why(tmp_path: Path) -> None:
    chosen = choose_weights(resolve_architecture("yolov8n-ghost"), "auto", tmp_path)
    assert chosen.path is None
    assert "from scratch: Ultralytics' pretrained weights cannot be had here (none are published)" in chosen.sentence


def test_auto_falls_back_to_the_starter(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(url: str, target: Path) -> None:
        raise OSError(f"no way to {url}")

    monkeypatch.setattr(pretrained, "_download", refuse)
    monkeypatch.setattr(pretrained, "STARTER", checkpoint)
    chosen = choose_weights(_SMALL, "auto", tmp_path)
    assert (chosen.path, chosen.kind) == (checkpoint, "starter")
    assert "no way to https://github.com/ultralytics/assets" in chosen.sentence
    assert choose_weights(resolve_architecture("yolov8n"), "auto", tmp_path).kind == "none"


def test_the_starter_fits_one_architecture(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "STARTER", checkpoint)
    assert choose_weights(_SMALL, "starter", tmp_path).path == checkpoint
    with pytest.raises(InputError, match="fits yolo11n alone, not yolov8n"):
        choose_weights(resolve_architecture("yolov8n"), "starter", tmp_path)
    monkeypatch.setattr(pretrained, "STARTER", tmp_path / "gone.pt")
    with pytest.raises(InputError, match="make starter"):
        choose_weights(_SMALL, "starter", tmp_path)


def test_missing_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.pt do not exist"):
        choose_weights(_SMALL, str(tmp_path / "gone.pt"), tmp_path)


class _Crafted:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def test_a_crafted_checkpoint_runs_no_code(tmp_path: Path) -> None:
    import torch

    mark = tmp_path / "it-ran"
    crafted = tmp_path / "crafted.pt"
    torch.save({"model": _Crafted(mark)}, crafted, pickle_module=pickle)
    with pytest.raises(InputError, match="no Ultralytics checkpoint"):
        load_checkpoint(crafted)
    assert not mark.exists()


def test_weights_of_another_task_are_refused(tmp_path: Path) -> None:
    from ultralytics.models.yolo import YOLO

    path = tmp_path / "classifier.pt"
    YOLO("yolo11n-cls.yaml").save(path)
    with pytest.raises(InputError, match="'classify'"):
        load_checkpoint(path)
