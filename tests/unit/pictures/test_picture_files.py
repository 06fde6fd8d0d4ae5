import io
import os
import re
import socket
import struct
import subprocess
import tempfile
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from transect.errors import SurveyError
from transect.pictures.files import PictureFiles, count_reasons, find_pictures


def encoded(kind: str) -> bytes:
    """A picture of 8 x 6 px."""
    stream = io.BytesIO()
    Image.fromarray(np.full((6, 8, 3), 90, np.uint8)).save(stream, kind)
    return stream.getvalue()


def boxed(*brands: bytes) -> bytes:
    """The first box of a file of HEIF's family."""
    return struct.pack(">I4s4sI", 16 + 4 * len(brands[1:]), b"ftyp", brands[0], 0) + b"".join(brands[1:]) + bytes(40)


def dng(order: str = "<") -> bytes:
    """A TIFF whose first directory has DNGVersion, as a raw picture's has."""
    start = b"II*\0" if order == "<" else b"MM\0*"
    tags = struct.pack(f"{order}HHII", 0x0100, 4, 1, 8) + struct.pack(f"{order}HHI", 0xC612, 1, 4) + b"\1\4\0\0"
    return start + struct.pack(f"{order}IH", 8, 2) + tags + bytes(4)


def put(folder: Path, *names: str, content: bytes = b"x") -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def names(folder: Path, found: PictureFiles) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in found.pictures]


def aside(folder: Path, found: PictureFiles) -> tuple[dict[str, str], dict[str, str]]:
    """Left out and unusable: reason by name."""
    left = {one.path.relative_to(folder).as_posix(): one.reason for one in found.left_out}
    return left, {one.path.relative_to(folder).as_posix(): one.reason for one in found.unusable}


def seen_by_find(folder: Path, *options: str) -> set[str]:
    done = subprocess.run(
        ["find", *options, str(folder), "!", "-type", "d", "-print0"], capture_output=True, check=False
    )
    return {os.fsdecode(line) for line in done.stdout.split(b"\0") if line}


def test_pictures_are_known_by_their_suffix_in_any_case_and_at_any_depth(tmp_path: Path) -> None:
    wanted = ["a.JPG", "b.jpe", "c.Jfif", "d/e/f.WEBP", "d/g.mpo", "h.bmp", "i.jp2", "j.tif", "k.TIFF", "l.png"]
    put(tmp_path, *wanted)
    assert names(tmp_path, find_pictures(tmp_path, SurveyError)) == sorted(wanted, key=lambda name: name.split("/"))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "BMP", "WebP", "GIF", "JPEG2000"])
def test_a_picture_without_a_suffix_or_with_a_strange_one_is_found_by_its_content(tmp_path: Path, kind: str) -> None:
    put(tmp_path, "dji_fly_20250715_100000_1", "photo.jpg_large", "IMG.2025.07.15", "a.heic", content=encoded(kind))
    put(tmp_path, "LOG", "flight.ubx", "NOTES.2025", content=b"BM is a unit, and this is no bitmap" * 3)
    found = find_pictures(tmp_path, SurveyError)
    assert names(tmp_path, found) == ["IMG.2025.07.15", "a.heic", "dji_fly_20250715_100000_1", "photo.jpg_large"]
    assert count_reasons(found.left_out) == {
        "no picture (.2025)": 1, "no picture (.ubx)": 1, "no picture (no suffix)": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    "place",
    [
        *(".Trash-1000/files", ".Trash", ".trash", ".Trashes/501", "$RECYCLE.BIN/S-1-5", "#recycle", "@Recycle"),
        *(".Spotlight-V100", "100MEDIA/.thumbnails", "System Volume Information", "@eaDir/a.jpg", "__MACOSX/T1"),
        *("lost+found", ".git/annex/objects", "LOST.DIR", "Catalog Previews.lrdata/0"),
    ],
)
def test_what_lies_in_trash_and_system_folders_is_left_out_and_counted(tmp_path: Path, place: str) -> None:
    put(tmp_path, "T1/a.jpg", f"T1/{place}/a.jpg", f"T1/{place}/deep/b.HEIC", f"{place}/c.txt")
    found = find_pictures(tmp_path, SurveyError)
    assert names(tmp_path, found) == ["T1/a.jpg"]
    assert (len(found.left_out), found.unusable, found.found) == (3, (), 4)
    assert all(one.reason.startswith("in ") for one in found.left_out)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("._DJI_1.JPG", "hidden file"),
        (".DS_Store", "hidden file"),
        (".jpg", "hidden file"),
        ("Thumbs.db", "system file"),
        ("DJI_1.THM", "thumbnail (.thm)"),
        ("DJI_1.SCR", "thumbnail (.scr)"),
        ("map.tif.ovr", "part of a map beside it (.ovr)"),
        ("map.tif.msk", "part of a map beside it (.msk)"),
        ("DJI_1.JPG_original", "backup or unfinished copy (.jpg_original)"),
        ("DJI_1.JPG.bak", "backup or unfinished copy (.bak)"),
        ("DJI_1.jpg~", "backup or unfinished copy (.jpg~)"),
        ("DJI_1.jpg.part", "backup or unfinished copy (.part)"),
        *((f"DJI_1.{suffix}", f"no picture (.{suffix})") for suffix in ("txt", "csv", "xmp", "srt", "tfw")),
        ("map.tif.aux.xml", "no picture (.xml)"),
        ("DJI_1.LRF", "no picture (.lrf)"),
        ("DJI_1.MP4", "no picture (.mp4)"),
    ],
)
def test_files_that_are_no_photos_are_left_out_whatever_they_hold(tmp_path: Path, name: str, reason: str) -> None:
    put(tmp_path, name, content=encoded("JPEG"))
    found = find_pictures(tmp_path, SurveyError)
    assert aside(tmp_path, found) == ({name: reason}, {})
    assert found.pictures == ()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("IMG 1.HEIC", boxed(b"heic", b"mif1", b"heic"), r"\(HEIF\); .* heif-convert"),
        ("IMG_1", boxed(b"mif1", b"miaf", b"heic"), r"\(HEIF\)"),
        ("IMG_1.heif", b"nothing that is known", r"\(HEIF\)"),
        ("DJI_1.DNG", dng(), r"\(DNG\); develop it .* darktable-cli"),
        ("DJI_1.dng", encoded("TIFF"), r"\(DNG\)"),
        ("DJI_1", dng(">"), r"\(DNG\)"),
        ("a.CR2", b"II*\0\x10\0\0\0CR\2\0" + bytes(40), "raw"),
        ("a.CR3", boxed(b"crx ", b"crx ", b"isom"), "raw"),
        *((f"a.{suffix}", b"?", "raw") for suffix in ("NEF", "ARW", "RAF", "RW2", "ORF", "RAW", "gpr")),
        ("a.jxl", b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(40), "djxl"),
        ("a.psd", b"8BPS" + bytes(40), "Photoshop"),
        ("map.ecw", b"?", "gdal_translate"),
        ("lfs", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        ("annexed.NEF", b"/annex/objects/SHA256E-s1--0.nef\n", "git annex get"),
        ("a.JPG", b"", r"is empty \(0 bytes\)"),
        ("a.HEIC", b"", r"is empty \(0 bytes\)"),
        (".IMG_1.HEIC.icloud", b"bplist00", "is in iCloud and not on this machine"),
    ],
)
def test_pictures_of_kinds_that_are_not_read_say_how_to_convert_them(
    tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    put(tmp_path, name, content=content)
    found = find_pictures(tmp_path, SurveyError)
    assert (found.pictures, found.left_out, len(found.unusable)) == ((), (), 1)
    assert re.search(words, found.unusable[0].reason)


def test_a_raw_copy_of_a_picture_is_no_second_photo(tmp_path: Path) -> None:
    put(tmp_path, "T1/DJI_1.JPG", "T1/DJI_1.DNG", "T1/IMG_2.heic", "T1/IMG_2.jpg", "T1/DJI_3.DNG", "T2/DJI_1.DNG")
    found = find_pictures(tmp_path, SurveyError)
    left, unusable = aside(tmp_path, found)
    assert left == {
        "T1/DJI_1.DNG": "copy of a picture beside it in another format (.dng)",
        "T1/IMG_2.heic": "copy of a picture beside it in another format (.heic)",
    }
    assert sorted(unusable) == ["T1/DJI_3.DNG", "T2/DJI_1.DNG"]


def test_links_that_lead_nowhere_pipes_and_sockets_are_unusable(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").symlink_to(".git/annex/objects/x/y.jpg")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "notes.txt").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as opened:
        here = Path.cwd()
        os.chdir(tmp_path)  # the path of a socket may not be long
        try:
            opened.bind("s.png")
        finally:
            os.chdir(here)
    left, unusable = aside(tmp_path, find_pictures(tmp_path, SurveyError))
    assert left == {"notes.txt": "no picture (.txt)"}
    assert unusable == {
        "a.jpg": "is a link to .git/annex/objects/x/y.jpg, which is not there; get that file, or remove the link",
        "loop.jpg": "is a link to loop.jpg, which is not there; get that file, or remove the link",
        "pipe.jpg": "is no regular file",
        "s.png": "is no regular file",
    }


def test_linked_folders_are_searched_once_and_repeated_ones_are_reported(tmp_path: Path) -> None:
    root, card = tmp_path / "images", tmp_path / "card"
    put(root, "T1/a.jpg", "T2/b.jpg", ".store/T9/z.jpg", ".store/lost.jpg")
    put(card, "c.jpg", "deep/d.jpg")
    (card / "back").symlink_to(root)
    (root / "T3").symlink_to(card)
    (root / "T1" / "self").symlink_to(root / "T1")
    (root / "A1").symlink_to(root / "T1")
    (root / "T9").symlink_to(root / ".store" / "T9")
    (root / "linked.jpg").symlink_to(card / "c.jpg")
    found = find_pictures(root, SurveyError)
    assert names(root, found) == ["T1/a.jpg", "T2/b.jpg", "T3/c.jpg", "T3/deep/d.jpg", "T9/z.jpg", "linked.jpg"]
    repeated = "link to a folder that is searched already"
    assert aside(root, found) == (
        {"A1": repeated, "T1/self": repeated, "T3/back": repeated, ".store/lost.jpg": "in .store, a hidden folder"},
        {},
    )


def test_a_nasty_tree_is_listed_whole_and_each_file_once(tmp_path: Path) -> None:
    nfc, nfd = "Süd", unicodedata.normalize("NFD", "Nörd")
    put(
        tmp_path,
        "T1/a b.jpg",
        f"{nfc}/ü.JPG",
        f"{nfd}/ö.jpg",
        "🦓/🐃.jpeg",
        "line\nbreak.jpg",
        "T1/-rf.png",
        "a'b\".jpg",
    )
    put(tmp_path, "trailing .jpg", "T1/x.jpg /y", "Thumbs.db", ".DS_Store", "T1/._a b.jpg", "T1/IMG_1.HEIC", "b.dng")
    put(tmp_path, ".Trash-1000/files/DJI_1.JPG", "@eaDir/a.jpg/SYNOPHOTO_THUMB.jpg", "lost+found/#123", "T1/DONE")
    put(tmp_path, "no_suffix", content=encoded("JPEG"))
    put(tmp_path, "empty.jpg", "empty", content=b"")
    Path(os.fsdecode(bytes(tmp_path) + b"/caf\xe9.jpg")).write_bytes(b"x")
    (tmp_path / "gone.jpg").symlink_to("nowhere")
    (tmp_path / "again.jpg").symlink_to("T1/a b.jpg")
    (tmp_path / "circle").symlink_to(".")
    (tmp_path / ".Trash-1000" / "up").symlink_to("..")
    os.mkfifo(tmp_path / "T1" / "pipe.jpg")
    found = find_pictures(tmp_path, SurveyError)
    listed = [*found.pictures, *(one.path for one in (*found.left_out, *found.unusable))]
    assert len(listed) == len(set(listed)) == found.found
    assert {str(path) for path in listed} == seen_by_find(tmp_path)
    assert len(found.pictures) == 11


def test_files_behind_linked_folders_are_those_that_find_follows_to(tmp_path: Path) -> None:
    root, card = tmp_path / "images", tmp_path / "card"
    put(root, "T1/a.jpg", "notes.txt")
    put(card, "c.jpg", "d.HEIC", ".hidden/e.jpg")
    (root / "T3").symlink_to(card)
    (root / "gone.jpg").symlink_to("nowhere")
    found = find_pictures(root, SurveyError)
    listed = {str(path) for path in found.pictures} | {str(one.path) for one in (*found.left_out, *found.unusable)}
    assert listed == seen_by_find(root, "-L")


def test_a_folder_that_is_closed_is_an_error_but_not_one_of_the_system() -> None:
    # Root may read everything, and pytest's own folder is the user's alone.
    with tempfile.TemporaryDirectory() as place:
        folder, root = Path(place), os.geteuid() == 0
        folder.chmod(0o755)
        put(folder, "a.jpg", "lost+found/b.jpg", "T1/c.jpg")
        (folder / "lost+found").chmod(0)
        try:
            if root:
                os.seteuid(65534)
            left, _ = aside(folder, find_pictures(folder, SurveyError))
            assert left == {"lost+found": "in lost+found, a folder of recovered fragments, which may not be read"}
            if root:
                os.seteuid(0)
            (folder / "T1").chmod(0)
            if root:
                os.seteuid(65534)
            with pytest.raises(SurveyError, match=r"T1 cannot be read: Permission denied; allow it, or move it away\."):
                find_pictures(folder, SurveyError)
        finally:
            if root:
                os.seteuid(0)
            (folder / "lost+found").chmod(0o755)
            (folder / "T1").chmod(0o755)
