"""Pictures from outside: what is refused before it is decoded, and what is left behind of what is let in."""

from __future__ import annotations

import base64
import io
import struct
import threading
import time
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pathasst.assistant.settings import ServeSettings
from pathasst.core.errors import BadInput
from pathasst.imaging.pictures import encode_png
from pathasst.serve.image_input import InputImages
from pathasst.serve.jobs import Busy
from pathasst.serve.uploads import UploadStore

SECRET = b"GPS-47.3769-8.5417-PATIENT-MUELLER"


@pytest.fixture
def input_images(tmp_path: Path) -> InputImages:
    serve = ServeSettings(home=tmp_path, picture_bytes=2**20, picture_pixels=4_000_000, picture_seconds=5.0)
    return InputImages.of(serve, UploadStore(tmp_path / "uploads"))


def saved(kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.full((32, 32, 3), 180, np.uint8)).save(out, kind, **options)
    return out.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, *more: bytes, rows: bytes = b"") -> bytes:
    """A PNG by hand: its header may say any size."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + b"".join(more)
        + chunk(b"IDAT", zlib.compress(rows, 9))
        + chunk(b"IEND", b"")
    )


def bmp(width: int, height: int) -> bytes:
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)


def gif(width: int, height: int) -> bytes:
    return (
        b"GIF89a"
        + struct.pack("<HH", width, height)
        + b"\x80\x00\x00"
        + b"\x00" * 6
        + b"\x2c"
        + struct.pack("<HHHH", 0, 0, width, height)
        + b"\x00\x02\x02\x44\x01\x00;"
    )


def tiff(width: int, height: int) -> bytes:
    tags = [(256, width), (257, height), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, height), (279, 10)]
    body = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags) + b"\0\0\0\0"
    return b"II*\0" + struct.pack("<I", 8) + body


BOMBS = {
    "png 50,000 × 50,000 in 7 KB of zeros": png(50_000, 50_000, rows=bytes(7_000_000)),
    "png 2^31 − 1 wide": png(2**31 - 1, 1),
    "png that says nothing": png(0, 0),
    "bmp 60,000 × 60,000": bmp(60_000, 60_000),
    "gif 65,535 × 65,535": gif(65_535, 65_535),
    "tiff 100,000 × 100,000": tiff(100_000, 100_000),
    "ppm 90,000 × 90,000": b"P6 90000 90000 255\n" + b"\0" * 100,
    "png with 200 MB of text in 200 KB": png(
        8, 8, chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(200_000_000), 9)), rows=bytes(8 * 25)
    ),
}
NO_PICTURES = {
    "html": b"<html><script>alert(1)</script></html>",
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
    "pdf": b"%PDF-1.4\n1 0 obj\n<< /OpenAction << /S /JavaScript >> >>",
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n(%pipe%id) (r) file",
    "elf": b"\x7fELF" + b"\0" * 100,
    "zip": b"PK\x03\x04" + b"\0" * 100,
    "pickle": b"\x80\x04\x95\x1b\0\0\0\0\0\0\0\x8c\x05posix\x94\x8c\x06system\x94\x93\x94.",
    "fits": b"SIMPLE  =                    T" + b" " * 2000,
    "icns": b"icns\0\0\0\x10ic07\0\0\0\x08",
    "wmf": b"\xd7\xcd\xc6\x9a" + b"\0" * 40,
    "empty": b"",
    "png's first bytes alone": b"\x89PNG\r\n\x1a\n",
    "jpeg's first bytes alone": b"\xff\xd8\xff\xe0",
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_by_their_header(input_images: InputImages, name: str) -> None:
    started = time.process_time()
    with pytest.raises(BadInput):
        input_images.decoded(input_images.checked(BOMBS[name]))
    assert time.process_time() - started < 5  # nothing of that size was unpacked


@pytest.mark.parametrize("name", NO_PICTURES)
def test_what_is_no_picture_is_refused(input_images: InputImages, name: str) -> None:
    with pytest.raises(BadInput):
        input_images.checked(NO_PICTURES[name])


def zipped() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("evil.html", SECRET)
    return out.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(saved("PNG") + SECRET, id="png and trailing text"),
        pytest.param(saved("PNG") + zipped(), id="png and zip"),
        pytest.param(saved("JPEG") + b"<script>" + SECRET + b"</script>", id="jpeg and html"),
        pytest.param(saved("GIF").replace(b"GIF89a", b"GIF89a") + b"*/=1;" + SECRET, id="gif and script"),
        pytest.param(saved("PNG")[:33] + chunk(b"tEXt", b"Comment\0" + SECRET) + saved("PNG")[33:], id="png with a comment"),
        pytest.param(
            saved("PNG")[:33] + chunk(b"eXIf", b"II*\0\x08" + bytes(9) + SECRET) + saved("PNG")[33:], id="png with exif"
        ),
        pytest.param(saved("JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0" + SECRET), id="jpeg with exif"),
        pytest.param(saved("JPEG", comment=SECRET), id="jpeg with a comment"),
        pytest.param(saved("JPEG", xmp=SECRET), id="jpeg with xmp"),
        pytest.param(saved("WEBP", xmp=SECRET), id="webp with xmp"),
        pytest.param(saved("TIFF", description=SECRET.decode()), id="tiff with a description"),
        pytest.param(saved("JPEG", icc_profile=SECRET * 4), id="jpeg with a profile"),
    ],
)
def test_only_pixels_go_on(input_images: InputImages, data: bytes) -> None:
    assert SECRET in data or b"evil.html" in data
    written = encode_png(input_images.decoded(input_images.checked(data)))
    assert SECRET not in written
    assert b"evil" not in written
    with Image.open(io.BytesIO(written)) as picture:
        assert not picture.getexif()
        assert set(picture.info) <= {"gamma", "srgb"}


@pytest.mark.parametrize(
    "source",
    [
        "data:text/html;base64,PGI+", "data:image/png,notbase64", "data:image/png;base64,%%%", "data:image/png;base64,AAA=A",
        "data:;base64", "data:image/svg+xml;base64,PHN2Zy8+", "file-0", "file-../../../../etc/passwd", "file-" + "0" * 32,
        "file-" + "A" * 32, "/etc/passwd", "../keys.json", "file:///etc/passwd", "C:\\windows\\win.ini",
        "keys.json\x00.png", "~/.ssh/id_rsa",
        "http://127.0.0.1/", "https://example.org/a.png",
    ],
)  # fmt: skip
def test_sources_that_lead_nowhere(input_images: InputImages, source: str) -> None:
    with pytest.raises(BadInput):
        input_images.picture(source, "anna")


def test_bytes_are_limited_before_base64_is_undone(input_images: InputImages) -> None:
    with pytest.raises(BadInput, match="MB"):
        input_images.picture("data:image/png;base64," + "A" * (2 * 2**20), "anna")


def test_pixels_are_limited(input_images: InputImages) -> None:
    data = encode_png(np.zeros((2001, 2000, 3), np.uint8))
    with pytest.raises(BadInput, match="megapixels"):
        input_images.checked(data)


def test_decoding_is_limited_in_time(input_images: InputImages, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pathasst.imaging.pictures.load", lambda *a: time.sleep(2))
    slow = InputImages(ServeSettings(picture_seconds=0.1), input_images.uploads, input_images.fetcher)
    with pytest.raises(BadInput, match=r"within 0\.1 s"):
        slow.decoded(saved("PNG"))


def test_a_data_url_and_a_file_are_let_in(input_images: InputImages) -> None:
    data = saved("PNG")
    assert input_images.picture(f"data:image/png;base64,{base64.b64encode(data).decode()}", "anna").image == data
    stored = input_images.uploads.put("anna", "a.png", data)
    assert input_images.picture(stored.id, "anna").image == data
    with pytest.raises(BadInput, match="no file"):
        input_images.picture(stored.id, "bert")


def test_large_pictures_wait_for_room(tmp_path: Path) -> None:
    """Twelve at once hold no more pixels than one server may: the thirteenth of nobody's gigabytes."""
    serve = ServeSettings(home=tmp_path, picture_pixels=4_000_000, decoding_pixels=5_000_000, wait_seconds=30.0)
    input_images = InputImages.of(serve, UploadStore(tmp_path / "uploads"))
    data = encode_png(np.zeros((2000, 1500, 3), np.uint8))
    together, most, lock = 0, 0, threading.Lock()

    def work(pixels: np.ndarray) -> int:
        nonlocal together, most
        with lock:
            together += 1
            most = max(most, together)
        time.sleep(0.02)
        with lock:
            together -= 1
        return int(pixels.size)

    with ThreadPoolExecutor(12) as pool:
        sizes = list(pool.map(lambda _: input_images.processed(data, work), range(12)))
    assert sizes == [9_000_000] * 12 and most == 1
    impatient = InputImages.of(serve.replace(wait_seconds=0.05), UploadStore(tmp_path / "uploads"))
    with impatient.room.reserve(5_000_000, 1.0), pytest.raises(Busy, match="large pictures"):
        impatient.decoded(data)
    assert impatient.decoded(data).shape == (2000, 1500, 3)
