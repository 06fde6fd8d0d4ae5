"""Kinds of picture files: which are supported, their magic bytes and suffixes, and how to convert unsupported ones.

The single table, used by the readers of images, surveys and training sets.
"""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

# The number of bytes that determine the kind.
HEAD_BYTES = 64

_RAW = "develop it to JPEG or to an 8-bit TIFF, with darktable-cli FILE FILE.jpg for example"
_PHONE = "convert it to JPEG, with heif-convert FILE FILE.jpg or magick FILE FILE.jpg for example, which keep EXIF"
_MAP = "convert it to a GeoTIFF, with gdal_translate -of GTiff FILE FILE.tif for example"
_OTHER = "convert it to PNG or JPEG, with magick FILE FILE.png for example"
_FILM = "cut it into pictures, with ffmpeg for example"


@dataclass(frozen=True)
class PictureKind:
    """A kind of picture file. `suffixes` are lower case, with their dot.

    `convert` is the advice for an unsupported kind, and empty for supported ones.
    """

    name: str
    suffixes: tuple[str, ...]
    convert: str = ""

    @property
    def read(self) -> bool:
        """Whether Transect reads such files."""
        return not self.convert

    @property
    def why(self) -> str:
        """The reason that an unsupported file is not read: the end of a sentence that starts with its name."""
        return f"is of a kind that is not read ({self.name}); {self.convert}"

    def refusal(self, label: str) -> str:
        """The sentence for an unsupported file."""
        return f"{label} {self.why}."


JPEG = PictureKind("JPEG", (".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".mpo"))
PNG = PictureKind("PNG", (".png",))
TIFF = PictureKind("TIFF", (".tif", ".tiff", ".gtif", ".gtiff", ".btf", ".tf8"))
BMP = PictureKind("BMP", (".bmp", ".dib"))
WEBP = PictureKind("WebP", (".webp",))
JPEG_2000 = PictureKind("JPEG 2000", (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"))
GIF = PictureKind("GIF", (".gif",))
AVIF = PictureKind("AVIF", (".avif",))
HEIF = PictureKind("HEIF", (".heic", ".heif", ".hif", ".heics", ".heifs"), _PHONE)
DNG = PictureKind("DNG", (".dng",), _RAW)
RAW = PictureKind(
    "camera raw",
    (
        ".3fr", ".arq", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".erf", ".fff", ".gpr", ".iiq", ".kdc", ".mef", ".mos",
        ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f",
    ),
    _RAW,
)  # fmt: skip
JPEG_XL = PictureKind("JPEG XL", (".jxl",), "convert it to JPEG or PNG, with djxl FILE FILE.jpg for example")
JPEG_XR = PictureKind("JPEG XR", (".jxr", ".wdp", ".hdp"), _OTHER)
PHOTOSHOP = PictureKind("Photoshop", (".psd", ".psb"), "save it as an 8-bit RGB TIFF")
OPEN_EXR = PictureKind("OpenEXR", (".exr",), _OTHER)
NETPBM = PictureKind("Netpbm", (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"), _OTHER)
TARGA = PictureKind("Targa", (".tga",), _OTHER)
SVG = PictureKind("SVG", (".svg",), _OTHER)
ECW = PictureKind("ECW", (".ecw",), _MAP)
MRSID = PictureKind("MrSID", (".sid",), _MAP)
IMAGINE = PictureKind("Erdas Imagine", (".img",), _MAP)
VRT = PictureKind("GDAL VRT", (".vrt",), _MAP)
PDF = PictureKind("PDF", (".pdf",), "export the picture in it as PNG or as a GeoTIFF")
FILM = PictureKind("film", (".mp4", ".mov", ".avi", ".mkv", ".mts", ".m4v", ".insv", ".360"), _FILM)
# Placeholders of files whose content was not fetched.
GIT_LFS = PictureKind("Git LFS pointer", (), "get the file itself with git lfs pull")
GIT_ANNEX = PictureKind("git-annex pointer", (), "get the file itself with git annex get")

READ_KINDS = (JPEG, PNG, TIFF, BMP, WEBP, JPEG_2000, GIF, AVIF)
OTHER_KINDS = (
    HEIF, DNG, RAW, JPEG_XL, JPEG_XR, PHOTOSHOP, OPEN_EXR, NETPBM, TARGA, SVG, ECW, MRSID, IMAGINE, VRT, PDF, FILM,
    GIT_LFS, GIT_ANNEX,
)  # fmt: skip
# Suffixes of the supported kinds.
READ_SUFFIXES = frozenset(suffix for kind in READ_KINDS for suffix in kind.suffixes)
READ_NAMES = ", ".join(kind.name for kind in READ_KINDS[:-1]) + f" or {READ_KINDS[-1].name}"

_BY_SUFFIX = {suffix: kind for kind in READ_KINDS + OTHER_KINDS for suffix in kind.suffixes}
_STARTS: tuple[tuple[bytes, PictureKind], ...] = (
    (b"\xff\xd8\xff", JPEG),
    (b"\x89PNG\r\n\x1a\n", PNG),
    (b"BM", BMP),
    (b"GIF87a", GIF),
    (b"GIF89a", GIF),
    (b"\0\0\0\x0cjP  \r\n\x87\n", JPEG_2000),
    (b"\xff\x4f\xff\x51", JPEG_2000),
    (b"\0\0\0\x0cJXL \r\n\x87\n", JPEG_XL),
    (b"\xff\x0a", JPEG_XL),
    (b"II\xbc\x01", JPEG_XR),
    (b"FUJIFILMCCD-RAW", RAW),
    (b"IIRO", RAW),
    (b"IIRS", RAW),
    (b"MMOR", RAW),
    (b"IIU\0", RAW),
    (b"FOVb", RAW),
    (b"\0MRM", RAW),
    (b"8BPS", PHOTOSHOP),
    (b"v/1\x01", OPEN_EXR),
    (b"EHFA_HEADER_TAG", IMAGINE),
    (b"msid", MRSID),
    (b"<VRTDataset", VRT),
    (b"%PDF-", PDF),
    (b"version https://git-lfs", GIT_LFS),
    (b"/annex/objects/", GIT_ANNEX),
)
# Little- and big-endian, classic and BigTIFF.
TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_DNG_VERSION = 0xC612  # a tag of the first directory of each DNG (Adobe, Digital Negative specification)
# Brands of the boxed container of ISO 14496-12 (`ftyp`).
_BRANDS = {
    **dict.fromkeys((b"avif", b"avis"), AVIF),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), HEIF),
    b"crx ": RAW,
}


def kind_of_content(head: bytes) -> PictureKind | None:
    """The kind by the first HEAD_BYTES of a file; None if it is not a picture.

    Raw files based on TIFF (DNG, NEF, ARW) are TIFF here: see kind_of_file.
    """
    if head.startswith(TIFF_STARTS):
        return RAW if head[8:10] == b"CR" else TIFF
    if head[4:8] == b"ftyp":
        return _boxed(head)
    if head.startswith(b"RIFF") and head[8:12] in (b"WEBP", b"AVI "):
        return WEBP if head[8:12] == b"WEBP" else FILM
    if head.startswith(b"BM") and head[6:10] != bytes(4) and head[14:18] not in (b"\x0c\0\0\0", b"\x28\0\0\0"):
        return None  # a text that begins with BM
    return next((kind for start, kind in _STARTS if head.startswith(start)), None)


def kind_of_suffix(name: str | Path) -> PictureKind | None:
    """The kind by a file's suffix; None for other suffixes."""
    return _BY_SUFFIX.get(Path(name).suffix.lower())


def kind_of(name: str | Path, head: bytes) -> PictureKind | None:
    """The kind of a file by its first HEAD_BYTES; its suffix separates raw files from TIFFs, and is the fallback.

    A file with a picture's suffix and unknown content has the kind of its suffix: it is a damaged picture.
    """
    by_suffix, content = kind_of_suffix(name), kind_of_content(head)
    if content is TIFF and by_suffix in (DNG, RAW):
        return by_suffix
    return content or by_suffix


def kind_of_file(path: Path) -> PictureKind | None:
    """As kind_of_stream, of a file. Raises OSError if it cannot be read."""
    with path.open("rb") as stream:
        return kind_of_stream(path, stream)


def kind_of_stream(name: str | Path, stream: BinaryIO) -> PictureKind | None:
    """As kind_of, but detects a DNG by content under any name, since its first picture as a TIFF is a thumbnail."""
    head = stream.read(HEAD_BYTES)
    kind = kind_of(name, head)
    return DNG if kind is TIFF and _is_dng(head, stream) else kind


def _is_dng(head: bytes, stream: BinaryIO) -> bool:
    order = "<" if head.startswith(b"II") else ">"
    if b"+" in head[2:4]:
        return False  # BigTIFF
    try:
        stream.seek(struct.unpack(f"{order}I", head[4:8])[0])
        (entries,) = struct.unpack(f"{order}H", stream.read(2))
        directory = stream.read(12 * entries)
    except struct.error:
        return False
    tags = (directory[at : at + 2] for at in range(0, len(directory) - 11, 12))
    return any(struct.unpack(f"{order}H", tag)[0] == _DNG_VERSION for tag in tags)


def _boxed(head: bytes) -> PictureKind | None:
    length = int.from_bytes(head[:4], "big")
    brands = [head[8:12], *(head[at : at + 4] for at in range(16, min(length, len(head)) - 3, 4))]
    # An AVIF may name the general brand mif1 first.
    known = [_BRANDS[brand] for brand in brands if brand in _BRANDS]
    if AVIF in known:
        return AVIF
    return known[0] if known else FILM
