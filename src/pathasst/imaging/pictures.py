"""Reading pictures safely: anything a person may upload becomes H×W×3 uint8 RGB, or a BadInput that says why not.

Knows file formats, not pathology. Sizes are checked from the header, before any pixel is decoded.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from pathasst.core.errors import BadInput

MAX_BYTES = 256 * 2**20
MAX_PIXELS = 100_000_000
"""10,000 × 10,000 px. Larger pictures are slides: read a region of them with `pathasst.imaging.slides`."""
FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF", "PPM", "JPEG2000")
UNREADABLE = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    IndexError,
    TypeError,
    struct.error,
    zlib.error,
)
"""What Pillow's decoders raise on damaged files."""


def load(source: str | Path | bytes, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """The picture in a file or in bytes, as H×W×3 uint8 RGB.

    Orientation from EXIF is applied, transparency lies on white, the first frame of an animation is taken, 16-bit greys are
    scaled to 8 bits (12-bit data by its own range), CMYK and palettes become RGB.
    Raises BadInput for a missing, foreign, damaged or truncated file and for one over the limits.
    """
    name, content = _content(source)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is stricter
        try:
            Image.init()  # or Pillow may not know yet the less common of our formats
            with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
                _check_size(name, picture.size, max_pixels)
                return _decode(name, picture)
        except UnidentifiedImageError:
            raise BadInput(f"{name} is not a picture in a known format ({', '.join(FORMATS)}).") from None
        except Image.DecompressionBombError:  # Pillow looks before we can
            raise BadInput(_too_large(name, "far too many pixels", max_pixels)) from None
        except UNREADABLE as error:
            raise BadInput(f"{name} cannot be decoded, it is damaged or cut off: {error}") from error


def require_side(image: np.ndarray, least: int, what: str) -> None:
    """Raises BadInput when the shorter side has fewer than `least` px."""
    height, width = image.shape[:2]
    if min(height, width) < least:
        raise BadInput(f"{what} needs a picture of at least {least}×{least} px; this one has {width}×{height}.")


def require_brightfield(image: np.ndarray, least: int, what: str) -> None:
    """Raises BadInput for a picture that cannot be of a stained slide: tiny, dark as fluorescence is, or without colour."""
    require_side(image, least, what)
    if is_dark_field(image):
        raise BadInput(f"{what} needs a brightfield picture; this one is dark, as fluorescence is.")
    if is_grey(image):
        raise BadInput(f"{what} needs a colour picture: this one is grey, or of an empty slide.")


def per_mm2(count: int, image: np.ndarray, um_per_px: float | None) -> float | None:
    """Cells per mm² of the whole picture, when its scale is known."""
    return round(count / (image.shape[0] * image.shape[1] * um_per_px**2 * 1e-6), 1) if um_per_px else None


def encode_png(image: np.ndarray) -> bytes:
    """H×W×3 uint8 RGB (or H×W uint8) as PNG."""
    import cv2

    quick = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]
    return cv2.imencode(".png", image if image.ndim == 2 else image[..., ::-1], quick)[1].tobytes()


def is_grey(image: np.ndarray, tolerance: float = 10.0) -> bool:
    """Whether an RGB picture has no colour: even in its most colourful pixels the channels differ by less than `tolerance`.

    The mean would call a pale stain on much empty glass grey.
    """
    step = max(1, min(image.shape[:2]) // 256)
    return float(np.percentile(spread(image[::step, ::step]), 98)) < tolerance


def is_dark_field(image: np.ndarray) -> bool:
    """Whether the picture looks like fluorescence: a black background under most of it, where brightfield has a light one."""
    step = max(1, min(image.shape[:2]) // 256)
    red, green, blue = (image[::step, ::step, c] for c in range(3))
    return float(np.median(np.maximum(np.maximum(red, green), blue))) < 60


def spread(image: np.ndarray) -> np.ndarray:
    """How colourful each pixel is: the greatest less the least channel, uint8 H×W. `np.ptp` over three takes 20 times as long."""
    red, green, blue = (image[..., c] for c in range(3))
    return np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)  # type: ignore[no-any-return]


def _content(source: str | Path | bytes) -> tuple[str, bytes]:
    if isinstance(source, bytes):
        name, content = "the picture", source
    else:
        path = Path(source)
        name = path.name
        try:
            if path.stat().st_size > MAX_BYTES:
                raise BadInput(f"{name} has {path.stat().st_size >> 20} MB, the limit is {MAX_BYTES >> 20} MB.")
            content = path.read_bytes()
        except OSError as error:
            raise BadInput(f"{path} cannot be read: {error.strerror or error}") from error
    if not content:
        raise BadInput(f"{name} is empty.")
    if len(content) > MAX_BYTES:
        raise BadInput(f"{name} has {len(content) >> 20} MB, the limit is {MAX_BYTES >> 20} MB.")
    return name, content


def _deep_planes(picture: Image.Image) -> bool:
    """Whether a TIFF has more than 8 bits a sample in separate planes (tags 258 and 284)."""
    tags = getattr(picture, "tag_v2", {})
    bits = tags.get(258, (8,))
    return tags.get(284) == 2 and isinstance(bits, tuple) and len(bits) > 1 and max(bits) > 8


def _check_size(name: str, size: tuple[int, int], limit: int) -> None:
    if size[0] * size[1] > limit:
        raise BadInput(_too_large(name, f"{size[0]}×{size[1]} px", limit))


def _too_large(name: str, size: str, limit: int) -> str:
    return (
        f"{name} has {size}, the limit is {limit // 1_000_000} megapixels; "
        "cut it, or read a region of a slide (`pathasst tools run … --region x,y,width,height`)."
    )


def _decode(name: str, picture: Image.Image) -> np.ndarray:
    picture.seek(0)
    if picture.format == "TIFF" and _deep_planes(picture):
        raise BadInput(
            f"{name} has its 16-bit colours in separate planes, which Pillow misreads; save it interleaved, or in 8 bits."
        )
    picture.load()
    # Pillow has no exact type for what `exif_transpose` returns when it is not in place.
    upright: Image.Image = ImageOps.exif_transpose(picture)
    if upright.mode.startswith("I") or upright.mode == "F":
        return _from_deep(name, np.asarray(upright))
    if upright.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in upright.info:
        over = upright.convert("RGBA")
        white = Image.new("RGBA", over.size, "white")
        return np.asarray(Image.alpha_composite(white, over).convert("RGB"))
    return np.array(upright.convert("RGB"))


def _from_deep(name: str, grey: np.ndarray) -> np.ndarray:
    """A 16-bit, 32-bit or float grey picture as 8-bit RGB."""
    top = float(np.nanmax(grey)) if grey.size else 0.0
    if not np.isfinite(grey).all() or float(grey.min()) < 0 or top > 65535:
        raise BadInput(f"{name} holds values outside of 0–65535; save it as an 8- or 16-bit picture.")
    if grey.dtype.kind == "f":
        white = 1.0 if top <= 1 else 255.0 if top <= 255 else 65535.0
    else:
        white = 255.0 if top <= 255 else 4095.0 if top <= 4095 else 65535.0
    eight = np.round(grey.astype(np.float32) * (255 / white)).clip(0, 255).astype(np.uint8)
    return np.repeat(eight[..., None], 3, axis=-1)
