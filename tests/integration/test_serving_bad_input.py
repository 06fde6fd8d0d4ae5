"""For any input, the real service responds correctly or with the error, and continues."""

import io
import socket
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from integration.detector_process import DetectorProcess, open_shop, running_detector

MIB = 1 << 20
# A red dot (a sheep) at x 8, y 16 of an image 64 wide and 48 high.
SHEEP = [("sheep", [8.0, 16.0, 16.0, 24.0])]


@pytest.fixture(scope="module")
def detector(dot_package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DetectorProcess]:
    folder = tmp_path_factory.mktemp("bad-input")
    # The embedded store: no server, and its artifacts in a local folder.
    environment = {"MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}"}
    shop = open_shop(folder, environment)
    shop.point(shop.register(dot_package))
    limits = {"TRANSECT_MAX_PIXELS": "100000", "TRANSECT_MAX_UPLOAD_MB": "1", "TRANSECT_MAX_IMAGES": "2"}
    scratch = folder / "scratch"
    scratch.mkdir()
    limits["TMPDIR"] = str(scratch)
    with running_detector(folder / "home", {**environment, **limits}) as running:
        running.wait_for(lambda: running.state()["ready"])
        yield running
        assert list(scratch.iterdir()) == [], "uploads stay off the disk"
    assert running.process.returncode == 0


@pytest.fixture(autouse=True)
def still_serves(detector: DetectorProcess) -> Iterator[None]:
    yield
    assert found(detector.detect(encoded(dot(), "PNG"))) == SHEEP


def dot() -> NDArray[np.uint8]:
    image = np.zeros((48, 64, 3), np.uint8)
    image[16:24, 8:16, 0] = 255
    return image


def encoded(pixels: NDArray[Any] | Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def found(answer: httpx.Response) -> list[tuple[str, list[float]]]:
    assert answer.status_code == 200, answer.text
    return [(item["class_name"], [round(v) for v in item["box"]]) for item in answer.json()["detections"]]


def problem(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    body = answer.json()
    assert body["status"] == answer.status_code
    assert body["detail"]
    return answer.status_code, body["type"].rpartition(":")[2]


def png16(image: NDArray[np.uint8]) -> bytes:
    """A PNG of 16 bits a channel, which Pillow cannot write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return len(data).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")

    height, width = image.shape[:2]
    rows = (image.astype(">u2") * 257).reshape(height, -1)
    data = b"".join(b"\0" + row.tobytes() for row in rows)
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([16, 2, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def test_every_kind_of_pixel_is_read(detector: DetectorProcess) -> None:
    image = Image.fromarray(dot())
    alpha = image.convert("RGBA")
    alpha.putalpha(128)
    bodies = {
        "jpeg": encoded(image, "JPEG", quality=95, subsampling=0),
        "cmyk": encoded(image.convert("CMYK"), "JPEG", quality=95, subsampling=0),
        "alpha": encoded(alpha, "PNG"),
        "palette": encoded(image.quantize(), "PNG"),
        "16-bit": png16(dot()),
        "tiff": encoded(image, "TIFF", compression="tiff_lzw"),
        "webp": encoded(image, "WEBP", lossless=True),
        "bmp": encoded(image, "BMP"),
    }
    assert {name: found(detector.detect(body, query="?conf=0.5")) for name, body in bodies.items()} == dict.fromkeys(
        bodies, SHEEP
    )


def test_boxes_are_in_the_picture_as_people_see_it(detector: DetectorProcess) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # stored rotated; displayed after a rotation of 90 degrees clockwise
    turned = encoded(Image.fromarray(np.rot90(dot())), "JPEG", exif=exif, quality=95, subsampling=0)
    answer = detector.detect(turned, "image/jpeg", "?conf=0.5")
    assert (answer.json()["width"], answer.json()["height"]) == (64, 48)
    assert found(answer) == SHEEP


def test_grey_and_a_single_pixel_are_images_without_animals(detector: DetectorProcess) -> None:
    assert found(detector.detect(encoded(np.zeros((48, 64), np.uint8), "PNG"))) == []
    assert found(detector.detect(encoded(np.zeros((48, 64), np.uint16), "PNG"))) == []
    assert found(detector.detect(encoded(np.zeros((1, 1, 3), np.uint8), "PNG"))) == []


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_a_truncated_image_is_an_error_not_half_an_answer(detector: DetectorProcess, kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    whole = encoded(noise, kind)
    assert problem(detector.detect(whole[: len(whole) * 3 // 4])) == (422, "image")


@pytest.mark.parametrize(
    "body", [b"", b"this is text", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"%PDF-1.7", b"\0" * 1000]
)
def test_a_file_that_is_no_image_is_named(detector: DetectorProcess, body: bytes) -> None:
    answer = detector.client.post("/v1/detect", files={"image": ("photo.jpg", body, "image/jpeg")})
    assert problem(answer) == (422, "image")
    assert "photo.jpg" in answer.json()["detail"]
    listed = detector.client.post("/v1/detect", files={"images": ("photo.jpg", body, "image/jpeg")})
    assert "photo.jpg" in listed.json()["results"][0]["failure"]


def jpeg_of(width: int, height: int) -> bytes:
    """A small JPEG whose header has another size."""
    whole = bytearray(encoded(np.zeros((8, 8, 3), np.uint8), "JPEG"))
    start = whole.index(b"\xff\xc0") + 5
    whole[start : start + 4] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return bytes(whole)


def tiff_of(width: int, height: int) -> bytes:
    """A small TIFF whose header has another size."""
    plain = encoded(np.zeros((7, 9, 3), np.uint8), "TIFF")
    for tag, old, new in ((256, 9, width), (257, 7, height)):
        entry = next(
            tag.to_bytes(2, "little")
            + kind.to_bytes(2, "little")
            + (1).to_bytes(4, "little")
            + old.to_bytes(4, "little")
            for kind in (3, 4)
            if tag.to_bytes(2, "little") + kind.to_bytes(2, "little") + (1).to_bytes(4, "little") in plain
        )
        huge = (
            tag.to_bytes(2, "little")
            + (4).to_bytes(2, "little")
            + (1).to_bytes(4, "little")
            + new.to_bytes(4, "little")
        )
        plain = plain.replace(entry, huge)
    return plain


BOMBS = {
    "png": encoded(Image.new("1", (5000, 5000)), "PNG"),
    "jpeg": jpeg_of(65_500, 65_500),
    "tiff": tiff_of(200_000, 200_000),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_decompression_bomb_is_refused_by_its_header(detector: DetectorProcess, kind: str) -> None:
    assert len(BOMBS[kind]) < 10_000
    before = resident(detector)
    assert problem(detector.detect(BOMBS[kind])) == (413, "image-too-large")
    assert resident(detector) - before < 50 * MIB


def resident(detector: DetectorProcess) -> float:
    """Return the resident memory of the service in bytes."""
    lines = detector.client.get("/metrics").text.splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("process_resident_memory_bytes "))


@pytest.mark.parametrize("size", [2 * MIB, 500 * MIB])
@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize("form", [True, False])
def test_a_large_upload_is_refused_and_the_answer_arrives(
    detector: DetectorProcess, size: int, declared: bool, form: bool
) -> None:
    opening = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n' if form else b""
    sent = 0

    def body() -> Iterator[bytes]:
        nonlocal sent
        yield opening
        for _ in range(size // MIB):
            sent += MIB
            yield b"x" * MIB

    headers = {"Content-Type": "multipart/form-data; boundary=x" if form else "image/jpeg"}
    if declared:
        headers["Content-Length"] = str(len(opening) + size)
    before = resident(detector)
    answer = detector.client.post("/v1/detect", content=body(), headers=headers)
    assert problem(answer) == (413, "body-too-large")
    assert sent <= 200 * MIB, "the service does not read the whole body to discard it"
    assert resident(detector) - before < 50 * MIB


PART = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'
BROKEN_FORMS = {
    "no boundary named": ("multipart/form-data", PART + b"data\r\n--x--\r\n"),
    "an endless boundary": (f"multipart/form-data; boundary={'x' * 60_000}", PART + b"data\r\n--x--\r\n"),
    "another boundary": ("multipart/form-data; boundary=y", PART + b"data\r\n--x--\r\n"),
    "no end": ("multipart/form-data; boundary=x", PART + b"data"),
    "no end after a part": ("multipart/form-data; boundary=x", PART + b"data\r\n--x\r\n"),
    "no form at all": ("multipart/form-data; boundary=x", b"this is text"),
    "nothing": ("multipart/form-data; boundary=x", b""),
    "no name": ("multipart/form-data; boundary=x", b"--x\r\nContent-Type: image/png\r\n\r\ndata\r\n--x--\r\n"),
    "endless header": ("multipart/form-data; boundary=x", b"--x\r\nA: " + b"b" * 100_000),
}


@pytest.mark.parametrize("case", BROKEN_FORMS)
def test_a_broken_form_is_named(detector: DetectorProcess, case: str) -> None:
    media_type, body = BROKEN_FORMS[case]
    assert problem(detector.detect(body, media_type)) == (400, "multipart")


def test_a_client_that_expects_100_continue_is_refused_before_it_sends(detector: DetectorProcess) -> None:
    address = (detector.client.base_url.host, detector.client.base_url.port)
    with socket.create_connection(address, timeout=30) as connection:
        connection.sendall(
            b"POST /v1/detect HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
            b"Content-Length: 999999999\r\nExpect: 100-continue\r\n\r\n"
        )
        assert connection.recv(20).startswith(b"HTTP/1.1 413")


def test_a_client_that_disconnects_in_the_middle_does_no_harm(detector: DetectorProcess) -> None:
    address = (detector.client.base_url.host, detector.client.base_url.port)
    with socket.create_connection(address, timeout=30) as connection:
        connection.sendall(
            b"POST /v1/detect HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: 99\r\n\r\nab"
        )
    detector.wait_for(lambda: any(line.get("status") == 499 for line in detector.lines()))


@pytest.mark.parametrize("media_type", ["text/plain", "application/json", "application/x-www-form-urlencoded", ""])
def test_a_body_of_another_type_is_refused(detector: DetectorProcess, media_type: str) -> None:
    assert problem(detector.detect(encoded(dot(), "PNG"), media_type)) == (415, "media-type")


@pytest.mark.parametrize("name", ["../../../etc/passwd", "/etc/passwd", "..\\..\\x", "a\0b.png", "%2e%2e%2fx", "$(id)"])
def test_a_name_is_a_label_and_no_path(detector: DetectorProcess, name: str) -> None:
    answer = detector.client.post("/v1/detect", files={"image": (name, encoded(dot(), "PNG"))})
    assert found(answer) == SHEEP
    assert answer.json()["image"]


def test_too_many_images_and_a_wrong_field_are_named(detector: DetectorProcess) -> None:
    part = ("a.png", encoded(dot(), "PNG"))
    assert problem(detector.client.post("/v1/detect", files=[("images", part)] * 3)) == (413, "too-many-images")
    assert problem(detector.client.post("/v1/detect", files={"picture": part})) == (422, "field")
