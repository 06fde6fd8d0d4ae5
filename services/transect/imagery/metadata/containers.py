"""Find EXIF and XMP in image files: JPEG and MPO, TIFF, PNG, WebP, JPEG 2000.

Pillow returns only the last XMP packet of a JPEG and no ExtendedXMP, so this module walks the segments; it reads
headers and metadata, but no pixels. Sources: XMP specification part 3 (storage in files), EXIF 2.32 section 4.7,
PNG (third edition) section 11.3, WebP container specification, ISO/IEC 15444-1 annex I.
"""

import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from transect.imagery.metadata.exif import Exif, Read, read_exif

# Phones append depth maps of many megabytes as XMP; a survey needs only kilobytes.
MOST_XMP = 4_000_000
_XMP_HEADER, _EXTENSION_HEADER = b"http://ns.adobe.com/xap/1.0/", b"http://ns.adobe.com/xmp/extension/\x00"
_TIFF_STARTS = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
_EXIF_UUID, _XMP_UUID = b"JpgTiffExif->JP2", bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
_MOST_SEGMENTS = 10_000


@dataclass
class Extension:
    """One ExtendedXMP: its total size, and its parts by offset."""

    size: int
    parts: list[tuple[int, bytes]] = field(default_factory=list)

    def joined(self) -> bytes | None:
        """The parts joined by offset; None if a part is missing."""
        whole = bytearray()
        for offset, part in sorted(self.parts):
            if offset > len(whole):
                return None
            whole[offset : offset + len(part)] = part
        return bytes(whole[: self.size]) if len(whole) >= self.size else None


@dataclass
class Embedded:
    """The metadata of a file as bytes: EXIF read, XMP packets in the file's order, ExtendedXMP by its GUID.

    `damage` describes unreadable parts. `xmp_bytes` is the size of all XMP so far.
    """

    exif: Exif = field(default_factory=Exif)
    packets: list[bytes] = field(default_factory=list)
    extensions: dict[bytes, Extension] = field(default_factory=dict)
    damage: list[str] = field(default_factory=list)
    xmp_bytes: int = 0

    def add_packet(self, packet: bytes) -> None:
        """Keep an XMP packet, unless the total exceeds the limit."""
        if self.reserve(len(packet)):
            self.packets.append(packet)

    def reserve(self, size: int) -> bool:
        """Whether `size` more bytes of XMP are within the limit; reports an excess once."""
        self.xmp_bytes += size
        if self.xmp_bytes <= MOST_XMP:
            return True
        excess = f"its XMP is larger than {MOST_XMP} bytes, and what is over that is not read"
        if excess not in self.damage:
            self.damage.append(excess)
        return False


def read_embedded(path: Path, wanted: frozenset[int]) -> Embedded:
    """The `wanted` EXIF fields and all XMP of a file. Raises OSError if the file cannot be read."""
    found = Embedded()
    blocks: list[bytes] = []
    with path.open("rb") as file:
        start = file.read(16)
        if start.startswith(_TIFF_STARTS):
            found.exif = read_exif(_reader(file), wanted, MOST_XMP)
        elif start.startswith(b"\xff\xd8"):
            _jpeg(file, found, blocks)
        elif start.startswith(b"\x89PNG\r\n\x1a\n"):
            _png(file, found, blocks)
        elif start[:4] == b"RIFF" and start[8:12] == b"WEBP":
            _webp(file, found, blocks)
        elif start[4:12] == b"jP  \r\n\x87\n":
            _jpeg_2000(file, found, blocks)
    for block in blocks:
        found.exif = _joined(found.exif, read_exif(_reader(io.BytesIO(block)), wanted, MOST_XMP))
    found.packets += found.exif.xmp
    found.damage += found.exif.damage
    return found


def _reader(file: BinaryIO) -> Read:
    def read(offset: int, size: int) -> bytes:
        try:
            file.seek(offset)
        except (OSError, ValueError, OverflowError):
            return b""
        return file.read(size)

    return read


def _joined(first: Exif, then: Exif) -> Exif:
    """Merge two blocks: the directories of the second are used if the first has none."""
    return Exif(
        first.main or then.main,
        first.detail or then.detail,
        first.gps or then.gps,
        first.xmp + then.xmp,
        first.damage + then.damage,
    )


def _jpeg(file: BinaryIO, found: Embedded, blocks: list[bytes]) -> None:
    for marker, size in _segments(file):
        if marker != 0xE1:
            continue
        body = file.read(size)
        if body[:5] == b"Exif\x00":
            block = body[6:]
            # A block that is too long for one segment continues in the next.
            if blocks and not block.startswith(_TIFF_STARTS):
                blocks[-1] += block
            else:
                blocks.append(block)
        elif body.startswith(_EXTENSION_HEADER):
            _extension(body[len(_EXTENSION_HEADER) :], found)
        elif body.startswith(_XMP_HEADER):
            found.add_packet(body[len(_XMP_HEADER) :].removeprefix(b"\x00"))
        elif b"<x:xmpmeta" in body or b"<rdf:RDF" in body or b"<?xpacket" in body:
            # Some programs write a different header, or none.
            found.add_packet(body[body.index(b"<") :])


def _segments(file: BinaryIO) -> Iterator[tuple[int, int]]:
    """Marker and size of each segment before the pixels; the file is positioned at the segment's body."""
    file.seek(2)
    for _ in range(_MOST_SEGMENTS):
        byte = file.read(1)
        while byte not in (b"\xff", b""):
            byte = file.read(1)
        while byte == b"\xff":
            byte = file.read(1)
        if not byte or byte[0] in (0xD9, 0xDA):
            return
        if byte[0] == 0x01 or 0xD0 <= byte[0] <= 0xD8 or byte[0] == 0x00:
            continue
        size = int.from_bytes(file.read(2), "big") - 2
        if size < 0:
            return
        body = file.tell()
        yield byte[0], size
        file.seek(body + size)


def _extension(body: bytes, found: Embedded) -> None:
    """XMP specification part 3, section 1.1.3.1: GUID, full length, offset, then the part."""
    guid, size, offset = body[:32].upper(), int.from_bytes(body[32:36], "big"), int.from_bytes(body[36:40], "big")
    if len(body) < 40:
        found.damage.append("a segment of extended XMP is cut off")
        return
    if found.reserve(len(body)):
        found.extensions.setdefault(guid, Extension(size)).parts.append((offset, body[40:]))


def _png(file: BinaryIO, found: Embedded, blocks: list[bytes]) -> None:
    file.seek(8)
    for _ in range(_MOST_SEGMENTS):
        head = file.read(8)
        size, kind = int.from_bytes(head[:4], "big"), head[4:]
        if len(head) < 8 or kind == b"IEND":
            return
        body = file.tell()
        if kind == b"eXIf" and size <= MOST_XMP:
            blocks.append(file.read(size).removeprefix(b"Exif\x00\x00"))
        elif kind in (b"iTXt", b"tEXt", b"zTXt") and size <= 2 * MOST_XMP:
            keyword, _, text = file.read(size).partition(b"\x00")
            _png_text(kind, keyword, text, found, blocks)
        file.seek(body + size + 4)


def _png_text(kind: bytes, keyword: bytes, text: bytes, found: Embedded, blocks: list[bytes]) -> None:
    if kind == b"iTXt" and keyword == b"XML:com.adobe.xmp":
        # Compression flag and method, language, translated keyword, text.
        packed, rest = text[:1] == b"\x01", text[2:].split(b"\x00", 2)[-1]
        found.add_packet(_inflated(rest) if packed else rest)
    elif kind != b"iTXt" and keyword.startswith(b"Raw profile type "):
        # ImageMagick's format: name, length, and the bytes in hexadecimal.
        lines = (_inflated(text[1:]) if kind == b"zTXt" else text).split(None, 2)
        try:
            profile = bytes.fromhex(lines[2].decode("ascii")) if len(lines) == 3 else b""
        except ValueError:
            found.damage.append(f'the "{keyword.decode("latin-1")}" of this PNG is damaged')
            return
        if profile.startswith(b"Exif\x00"):
            blocks.append(profile[6:])
        elif keyword.lower().endswith(b"exif"):
            blocks.append(profile)
        elif keyword.lower().endswith((b"xmp", b"app1")):
            found.add_packet(profile.removeprefix(_XMP_HEADER).removeprefix(b"\x00"))


def _inflated(packed: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(packed, MOST_XMP)
    except zlib.error:
        return b""


def _webp(file: BinaryIO, found: Embedded, blocks: list[bytes]) -> None:
    file.seek(12)
    for _ in range(_MOST_SEGMENTS):
        head = file.read(8)
        if len(head) < 8:
            return
        kind, size = head[:4], int.from_bytes(head[4:], "little")
        body = file.tell()
        if kind == b"EXIF" and size <= MOST_XMP:
            blocks.append(file.read(size).removeprefix(b"Exif\x00\x00"))
        elif kind == b"XMP " and size <= MOST_XMP:
            found.add_packet(file.read(size))
        file.seek(body + size + size % 2)


def _jpeg_2000(file: BinaryIO, found: Embedded, blocks: list[bytes]) -> None:
    file.seek(0)
    for _ in range(_MOST_SEGMENTS):
        start = file.tell()
        head = file.read(8)
        size, header = int.from_bytes(head[:4], "big"), 8
        if size == 1:
            size, header = int.from_bytes(file.read(8), "big"), 16
        if len(head) < 8 or size < header:
            return
        if head[4:] == b"uuid" and size <= MOST_XMP:
            uuid, body = file.read(16), file.read(size - header - 16)
            if uuid == _XMP_UUID:
                found.add_packet(body)
            elif uuid == _EXIF_UUID:
                blocks.append(body.removeprefix(b"Exif\x00\x00"))
        file.seek(start + size)
