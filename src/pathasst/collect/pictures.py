"""Published picture bytes → bytes that every later step can open. Knows image files, nothing of figures.

What a browser shows (JPEG, PNG, GIF, WebP) keeps its published bytes; anything else (TIFF, BMP …) becomes a lossless PNG.
Every picture is decoded once in full, so that a truncated file or a decompression bomb costs itself and nothing later.
"""

from __future__ import annotations

import hashlib
import io
import struct
import warnings
import zlib
from dataclasses import dataclass
from typing import Any

from pathasst.core.errors import BadInput

KEPT_FORMATS = frozenset({"JPEG", "MPO", "PNG", "GIF", "WEBP"})
READ_FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "JPEG2000", "PPM")
MAX_PIXELS = 120_000_000  # a poster at 300 dpi; decoded as RGB it is 360 MB
MAX_BYTES = 256 * 2**20


@dataclass(frozen=True, slots=True)
class Picture:
    """A checked picture: bytes to keep, size in px, and the MD5 of the bytes as they were published."""

    content: bytes
    width: int
    height: int
    md5: str


def check(content: bytes, name: str) -> Picture:
    """Decode a picture in full and return what to keep of it.

    Raises BadInput for no or an unknown picture, for one that is cut off, or for one with more than MAX_PIXELS pixels.
    """
    from PIL import Image

    if not content or len(content) > MAX_BYTES:
        raise BadInput(f"{name}: {len(content)} bytes; a picture has 1 to {MAX_BYTES}.")
    Image.init()  # loads every format's reader; without it only the commonest five are known
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content), formats=READ_FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise BadInput(f"{name}: {image.width} x {image.height} px are more than the {MAX_PIXELS} allowed.")
                image.load()
                kept = content if image.format in KEPT_FORMATS else _as_png(image)
                return Picture(kept, image.width, image.height, md5_of(content))
    except Image.DecompressionBombError as error:
        raise BadInput(f"{name}: refused as a decompression bomb ({error}).") from error
    except (OSError, ValueError, SyntaxError, EOFError, IndexError, KeyError, TypeError, ZeroDivisionError) as error:
        raise BadInput(f"{name}: no readable picture ({error}).") from error
    except (struct.error, zlib.error, OverflowError, MemoryError) as error:
        raise BadInput(f"{name}: damaged picture ({error}).") from error


def md5_of(content: bytes) -> str:
    """The MD5 as 32 hex digits: identity of published files, as S3 ETags have it; not a safeguard against forgery."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _as_png(image: Any) -> bytes:
    buffer = io.BytesIO()
    _eight_bit(image).save(buffer, "PNG")
    return buffer.getvalue()


def _eight_bit(image: Any) -> Any:
    """The first page as 8-bit L or RGB(A); 16-bit and float values are stretched to their own range."""
    if image.mode.startswith(("I", "F")):
        import numpy as np
        from PIL import Image

        values = np.asarray(image, dtype=np.float64)
        low, high = np.nanmin(values), np.nanmax(values)
        scaled = (np.nan_to_num(values, nan=low) - low) * (255.0 / (high - low) if high > low else 0.0)
        return Image.fromarray(scaled.round().astype(np.uint8))
    if image.mode in ("L", "RGB", "RGBA"):
        return image
    return image.convert("L" if image.mode == "1" else "RGBA" if image.mode in ("LA", "PA") else "RGB")
