import io
import struct
import zlib

import pytest
from collect_samples import picture
from PIL import Image

from pathasst.collect.pictures import check, md5_of
from pathasst.core.errors import BadInput


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP"])
def test_what_a_browser_shows_keeps_its_bytes(kind: str) -> None:
    content = picture(kind=kind)
    kept = check(content, "x")
    assert (kept.content, kept.width, kept.height, kept.md5) == (content, 40, 30, md5_of(content))


@pytest.mark.parametrize(("kind", "mode"), [("TIFF", "RGB"), ("TIFF", "CMYK"), ("TIFF", "I;16"), ("TIFF", "L"), ("BMP", "RGB")])
def test_the_rest_becomes_png(kind: str, mode: str) -> None:
    content = picture(kind=kind, mode=mode)
    kept = check(content, "x")
    with Image.open(io.BytesIO(kept.content)) as image:
        assert (image.format, image.size) == ("PNG", (40, 30))
        assert image.mode in ("L", "RGB") and image.convert("L").getextrema()[0] != image.convert("L").getextrema()[1]
    assert kept.md5 == md5_of(content)  # the MD5 stays that of the published file


def test_tiff_pixels_survive_exactly() -> None:
    content = picture(kind="TIFF")
    with Image.open(io.BytesIO(content)) as before, Image.open(io.BytesIO(check(content, "x").content)) as after:
        assert before.tobytes() == after.tobytes()


def bomb() -> bytes:
    """A PNG of 30000 x 30000 px in a few hundred bytes."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "content",
    [b"", b"no picture", b"<svg/>", picture((200, 200))[:3000], picture((200, 200), "TIFF")[:3000], bomb()],
    ids=["empty", "text", "svg", "cut-jpeg", "cut-tiff", "bomb"],
)
def test_a_bad_picture_is_refused(content: bytes) -> None:
    with pytest.raises(BadInput, match=r"^x "):
        check(content, "x")
