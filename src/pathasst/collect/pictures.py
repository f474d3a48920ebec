"""Published picture bytes → bytes that every later step can open. Knows image files, nothing of figures.

What a browser shows (JPEG, PNG, GIF, WebP) keeps its published bytes; anything else (TIFF, BMP …) becomes a lossless PNG.
Every picture is decoded once in full, so that a truncated file or a decompression bomb costs itself and nothing later.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from pathasst.imaging.pictures import encode_png, read

KEPT_FORMATS = frozenset({"JPEG", "MPO", "PNG", "GIF", "WEBP"})


@dataclass(frozen=True, slots=True)
class CheckedPicture:
    """A checked picture: bytes to keep, size in px, and the MD5 of the bytes as they were published."""

    content: bytes
    width: int
    height: int
    md5: str


def check(content: bytes, name: str) -> CheckedPicture:
    """Decode a picture in full and return what to keep of it.

    Raises BadInput for no or an unknown picture, for one that is cut off, or for one over the reader's limits.
    """
    picture = read(content, name=name)
    height, width = picture.pixels.shape[:2]
    return CheckedPicture(
        content if picture.format in KEPT_FORMATS else encode_png(picture.pixels), width, height, md5_of(content)
    )


def md5_of(content: bytes) -> str:
    """The MD5 as 32 hex digits: identity of published files, as S3 ETags have it; not a safeguard against forgery."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
