"""Encoded bytes ↔ pixel arrays. Knows no record."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from pathasst.core.errors import BadInput

if TYPE_CHECKING:
    import numpy as np

MAX_PIXELS = 120_000_000  # a larger picture is a slide or a bomb, not a figure


def decode(content: bytes) -> np.ndarray:
    """An encoded picture as H×W×3 uint8 RGB: EXIF orientation applied, transparency on white, 16 bits scaled to 8.

    Raises BadInput when the bytes are no picture, are cut off, or hold more than 120 million pixels.
    """
    import numpy as np
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(content)) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                raise BadInput(f"the picture has {opened.width}×{opened.height} px, more than a figure may have.")
            opened.load()
            picture = ImageOps.exif_transpose(opened)
            if picture.mode.startswith(("I", "F")):
                values = np.asarray(picture, np.float32)
                low, high = float(values.min()), float(values.max())
                grey = ((values - low) * (255.0 / (high - low or 1.0))).astype(np.uint8)
                return np.repeat(grey[:, :, None], 3, axis=2)
            if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
                picture = picture.convert("RGBA")
                white = Image.new("RGBA", picture.size, "white")
                picture = Image.alpha_composite(white, picture)
            return np.asarray(picture.convert("RGB"))
    except UnidentifiedImageError as error:
        raise BadInput("the picture cannot be read: it is in no format that is known here.") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BadInput(f"the picture cannot be read: {error}") from error


def encode_jpeg(picture: np.ndarray, quality: int = 92) -> bytes:
    """H×W×3 uint8 RGB as JPEG bytes, the same bytes for the same pixels."""
    from PIL import Image

    sink = io.BytesIO()
    Image.fromarray(picture).save(sink, "JPEG", quality=quality, subsampling=0)
    return sink.getvalue()


def crop(picture: np.ndarray, box: tuple[float, float, float, float]) -> np.ndarray:
    """The pixels inside a box x1 y1 x2 y2 (px), clipped to the picture. Raises BadInput when nothing is left."""
    height, width = picture.shape[:2]
    x1, y1 = max(0, round(box[0])), max(0, round(box[1]))
    x2, y2 = min(width, round(box[2])), min(height, round(box[3]))
    if x2 <= x1 or y2 <= y1:
        raise BadInput(f"the box {box} lies outside the picture of {width}×{height} px.")
    return picture[y1:y2, x1:x2]
