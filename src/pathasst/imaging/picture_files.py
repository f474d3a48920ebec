"""Which files of a folder are pictures: by their names, or by how they begin. Decodes nothing."""

from __future__ import annotations

from pathlib import Path

from pathasst.imaging.pictures import SUFFIXES

_STARTS = (b"\x89PNG", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"GIF8", b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")
_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1", b"avif", b"avis")  # of HEIC and AVIF
_NETPBM = (".ppm", ".pgm", ".pnm")


def is_picture_file(path: Path) -> bool:
    """Whether a file of a folder is a picture: by its name, or, under another suffix or none (.jfif, DICOM), by its bytes.

    Hidden files are none: those beginning with `._` hold what macOS knows of another file.
    """
    if path.name.startswith("."):
        return False
    if path.suffix.lower() in SUFFIXES:
        return True
    try:
        with path.open("rb") as file:
            head = file.read(132)
    except OSError:
        return False
    boxed = head[4:8] == b"ftyp" and head[8:12] in _BRANDS
    plain = path.suffix.lower() in _NETPBM and head[:2] in (b"P2", b"P3", b"P5", b"P6")
    webp = head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    return head.startswith(_STARTS) or boxed or plain or webp or head[128:] == b"DICM"
