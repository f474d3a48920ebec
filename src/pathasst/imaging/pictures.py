"""The one reader of pictures: what a person hands in becomes H×W×3 uint8 RGB and its scale, or a BadInput that says why not.

Knows file formats, not pathology. Page, API, tools, curation and training all read by these rules:

- formats: `FORMATS`, DICOM, and HEIC with the extra `heic`; told from the bytes, not from the name;
- limits: MAX_BYTES and MAX_PIXELS, checked from the header before any pixel is decoded;
- pixels: EXIF orientation applied, transparency on white, CMYK and palettes as RGB, 16 bits scaled to 8 (12-bit values by their
  own range), channels in separate planes or pages put together;
- of several pages or frames the first, and a note that there are more;
- scale: from the metadata (`pathasst.imaging.scales`).
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from pathasst.core.errors import BadInput, MissingPackage
from pathasst.imaging import scales
from pathasst.imaging.deep import deep_colours, to_eight_bits

MAX_BYTES = 256 * 2**20
MAX_PIXELS = 120_000_000
"""A poster at 300 dpi, 360 MB as RGB. Larger pictures are slides: read a region of them with `pathasst.imaging.slides`."""
MAX_PIXELS_OF_REGION = 400_000_000
"""A picture that is no slide is decoded whole to take a region of it: 1.2 GB."""
FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF", "PPM", "JPEG2000", "AVIF")
"""Pillow's names of the formats it may decode here."""
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".gif", ".jp2", ".j2k", ".avif", ".heic", ".dcm")
"""Names that picture files of a folder have."""
_DAMAGED = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    MemoryError,
    NotImplementedError,
    RuntimeError,
    struct.error,
    zlib.error,
)
"""What decoders raise on damaged files."""
_HEIC = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")
_TRANSPARENT = ("RGBA", "LA", "PA", "La", "RGBa")


@dataclass(frozen=True, slots=True)
class LoadedPicture:
    """A decoded picture.

    `pixels`: H×W×3 uint8 RGB. `um_per_px`: the microscope's scale by the file's own metadata, None when unknown; `scale_source`:
    which metadata. `notes`: what a person should know of the reading (further pages, a scale not believed), each a clause.
    """

    pixels: np.ndarray
    format: str
    um_per_px: float | None = None
    scale_source: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of itself before it is decoded: its format, and the size in px as shown (EXIF orientation applied).

    `orientation`: EXIF's 1–8, by which the stored pixels were turned; from 5 on their width and height change places.
    """

    format: str
    width: int
    height: int
    orientation: int = 1


def read(source: str | Path | bytes, max_pixels: int = MAX_PIXELS, name: str = "") -> LoadedPicture:
    """The picture in a file or in bytes; `name` stands in messages instead of the file's.

    Raises BadInput for a missing, foreign, damaged or truncated file and for one over the limits.
    """
    name, content = _content(source, name)
    if content[128:132] == b"DICM":
        with _as_bad_input(name, max_pixels):
            return _read_dicom(name, content, max_pixels)
    with _opened(name, content, max_pixels) as picture:
        picture.seek(0)
        tags = getattr(picture, "tag_v2", {}) if picture.format == "TIFF" else {}
        scale = scales.of_tiff(tags)
        notes = [scale.note] if scale.note else []
        planes = _pages_that_are_channels(tags)
        if further := _further_pages(picture, max(planes, 1)):
            notes.append(further)
        pixels, note = _pixels(name, content, picture, tags, planes)
        if note:
            notes.append(note)
        pixels = _upright(pixels, _orientation(picture))
        return LoadedPicture(pixels, picture.format or "", scale.um_per_px, scale.source, tuple(notes))


def load(source: str | Path | bytes, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """The pixels of `read` alone: H×W×3 uint8 RGB. Raises BadInput as `read` does."""
    return read(source, max_pixels).pixels


def read_header(source: str | Path | bytes, max_pixels: int = MAX_PIXELS, name: str = "") -> Header:
    """Format and size, without decoding. Raises BadInput for what is no picture or is over the limits."""
    name, content = _content(source, name)
    if content[128:132] == b"DICM":
        picture = read(content, max_pixels, name)
        return Header(picture.format, picture.pixels.shape[1], picture.pixels.shape[0])
    with _opened(name, content, max_pixels) as opened:
        orientation = _orientation(opened)
        turned = orientation >= 5 and opened.format != "TIFF"  # whose size Pillow turns itself
        width, height = opened.size[::-1] if turned else opened.size
        return Header(opened.format or "", width, height, orientation)


def read_labels(source: Path) -> np.ndarray:
    """A mask file's own values, H×W whole numbers (of a palette its indices), unscaled. Raises BadInput, also for colours."""
    name, content = _content(source, f"the mask {source.name}")
    with _opened(name, content, MAX_PIXELS) as opened:
        values, mode = np.asarray(opened), opened.mode
    if values.ndim != 2:
        raise BadInput(
            f"{name} is a colour picture ({mode}); save it with one channel (8- or 16-bit grey PNG or TIFF), 0 "
            "where nothing is and another number for each object."
        )
    return values.astype(np.int64) if values.dtype.kind == "f" else values


def thumbnail(source: str | Path | bytes, side: int) -> Image.Image:
    """A small RGB picture that fits `side`×`side` px, decoded at reduced size where the format can (JPEG). Raises BadInput."""
    name, content = _content(source, "")
    if content[:3] == b"\xff\xd8\xff":
        with _opened(name, content, MAX_PIXELS) as opened:
            opened.draft("RGB", (side * 2, side * 2))
            small = Image.fromarray(_upright(np.asarray(opened.convert("RGB")), _orientation(opened)))
    else:
        small = Image.fromarray(read(content, name=name).pixels)
    small.thumbnail((side, side))
    return small


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


def encode_png(image: np.ndarray) -> bytes:
    """H×W×3 uint8 RGB (or H×W uint8) as PNG."""
    import cv2

    quick = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]
    return cv2.imencode(".png", image if image.ndim == 2 else image[..., ::-1], quick)[1].tobytes()


def encode_jpeg(picture: np.ndarray, quality: int = 92) -> bytes:
    """H×W×3 uint8 RGB as JPEG bytes, the same bytes for the same pixels."""
    sink = io.BytesIO()
    Image.fromarray(picture).save(sink, "JPEG", quality=quality, subsampling=0)
    return sink.getvalue()


def widen(box: tuple[float, float, float, float], margin: float) -> tuple[float, float, float, float]:
    """The box with `margin` of its width and height added on each side."""
    x, y = (box[2] - box[0]) * margin, (box[3] - box[1]) * margin
    return box[0] - x, box[1] - y, box[2] + x, box[3] + y


def crop(picture: np.ndarray, box: tuple[float, float, float, float]) -> np.ndarray:
    """The pixels inside a box x1 y1 x2 y2 (px), clipped to the picture. Raises BadInput when nothing is left."""
    height, width = picture.shape[:2]
    x1, y1 = max(0, round(box[0])), max(0, round(box[1]))
    x2, y2 = min(width, round(box[2])), min(height, round(box[3]))
    if x2 <= x1 or y2 <= y1:
        raise BadInput(f"the box {box} lies outside the picture of {width}×{height} px.")
    return picture[y1:y2, x1:x2]


@contextmanager
def _as_bad_input(name: str, max_pixels: int) -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's of bombs (our own limit is stricter), and those of damaged metadata
        try:
            yield
        except UnidentifiedImageError:
            raise BadInput(f"{name} is not a picture in a known format ({', '.join(FORMATS)}, DICOM).") from None
        except Image.DecompressionBombError:  # Pillow looks before we can
            raise BadInput(_too_large(name, "far too many pixels", max_pixels)) from None
        except _DAMAGED as error:
            raise BadInput(f"{name} cannot be decoded, it is damaged or cut off: {error}") from error


@contextmanager
def _opened(name: str, content: bytes, max_pixels: int) -> Iterator[Image.Image]:
    """The file opened by Pillow, its size within the limit, nothing decoded; decoders' errors become BadInput."""
    if content[4:8] == b"ftyp" and content[8:12] in _HEIC:
        _register_heic(name)
    with _as_bad_input(name, max_pixels):
        Image.init()  # or Pillow may not know yet the less common of our formats
        with Image.open(io.BytesIO(content), formats=[*FORMATS, *({"HEIF"} & set(Image.OPEN))]) as picture:
            if picture.width * picture.height > max_pixels:
                raise BadInput(_too_large(name, f"{picture.width}×{picture.height} px", max_pixels))
            yield picture


def _register_heic(name: str) -> None:
    try:
        from pi_heif import register_heif_opener
    except ImportError:
        raise MissingPackage(f"{name} is a HEIC photograph: pip install 'pathasst[heic]', or save it as JPEG or PNG.") from None
    register_heif_opener()


def _content(source: str | Path | bytes, name: str) -> tuple[str, bytes]:
    if isinstance(source, bytes):
        name, content = name or "the picture", source
    else:
        path = Path(source)
        name = name or path.name
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


def _too_large(name: str, size: str, limit: int) -> str:
    if limit >= MAX_PIXELS_OF_REGION:
        way = "save it as a pyramidal TIFF (`vips tiffsave IN OUT.tif --tile --pyramid`), of which regions are read."
    else:
        way = "cut it, or read a region of it (`pathasst tools run … --region x,y,width,height`)."
    return f"{name} has {size}, the limit is {limit // 1_000_000} megapixels; {way}"


def _orientation(picture: Image.Image) -> int:
    """EXIF's 1–8; 1 is upright, from 5 on width and height change places."""
    value = picture.getexif().get(0x0112, 1)
    return value if value in range(1, 9) else 1


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def _further_pages(picture: Image.Image, read: int) -> str:
    """A note when there are pages or frames after the first `read`; smaller levels and a phone's preview do not count."""
    if picture.format == "MPO":
        return ""
    count, size = 1, picture.size
    try:
        while count < 1000:
            picture.seek(count)
            if picture.size != size:  # a level, a thumbnail or a label
                break
            count += 1
            if picture.format != "TIFF":  # finding the number of frames may mean to decode them
                break
    except EOFError:
        pass
    picture.seek(0)
    if count <= read:
        return ""
    if picture.format != "TIFF":
        return "it has several frames, of which the first was read"
    pages = count if count < 1000 else "over 1,000"
    return f"it has {pages} pages, of which the first {'was' if read == 1 else f'{read} were'} read"


def _pages_that_are_channels(tags: Mapping[int, Any]) -> int:
    """3 when the first three pages of a TIFF are red, green and blue, as OME-XML or ImageJ state; otherwise 0."""
    text = str(tags.get(270, ""))
    if tags.get(277, 1) != 1:
        return 0
    if "<OME" in text[:2000]:
        channels, order = 'SizeC="3"' in text, 'DimensionOrder="XYC' in text or ('SizeZ="1"' in text and 'SizeT="1"' in text)
        return 3 if channels and order else 0
    return 3 if text.startswith("ImageJ=") and "channels=3\n" in text else 0


def _pixels(name: str, content: bytes, picture: Image.Image, tags: Mapping[int, Any], planes: int) -> tuple[np.ndarray, str]:
    """H×W×3 uint8 as stored (not turned yet), and a note where values had to be scaled."""
    if planes:
        pages = []
        for n in range(planes):
            picture.seek(n)
            pages.append(np.array(picture))
        if len({p.shape for p in pages}) > 1 or pages[0].ndim != 2:
            raise BadInput(f"{name} states three channels, its pages do not fit them.")
        return to_eight_bits(name, np.stack(pages, axis=-1))
    bits = tags.get(258, (8,))
    deep = max(bits if isinstance(bits, tuple) else (bits,)) > 8 if tags else content[24] > 8 and picture.format == "PNG"
    if deep and picture.mode in ("RGB", "RGBA", "RGBX"):  # of which Pillow would keep the high bytes alone
        colours = deep_colours(name, content, picture.format == "TIFF")
        return to_eight_bits(name, colours)
    picture.load()
    if picture.mode.startswith("I") or picture.mode == "F":
        return to_eight_bits(name, np.repeat(np.asarray(picture)[..., None], 3, axis=-1))
    if picture.mode in _TRANSPARENT or "transparency" in picture.info:
        over = picture.convert("RGBA")
        white = Image.new("RGBA", over.size, "white")
        return np.asarray(Image.alpha_composite(white, over).convert("RGB")), ""
    return np.array(picture if picture.mode == "RGB" else picture.convert("RGB")), ""


def _read_dicom(name: str, content: bytes, max_pixels: int) -> LoadedPicture:
    """A DICOM picture (VL microscopic, photographic …); of a multi-frame one the first frame. A tiled slide is refused."""
    import pydicom
    from pydicom.pixels import pixel_array

    dataset = pydicom.dcmread(io.BytesIO(content))
    if "PixelData" not in dataset:
        raise BadInput(f"{name} is a DICOM file without a picture.")
    width, height, frames = int(dataset.Columns), int(dataset.Rows), int(dataset.get("NumberOfFrames") or 1)
    full_size = int(dataset.get("TotalPixelMatrixColumns") or width), int(dataset.get("TotalPixelMatrixRows") or height)
    if full_size[0] > width or full_size[1] > height:
        raise BadInput(
            f"{name} is a DICOM slide of {full_size[0]}×{full_size[1]} px in tiles: read a region (--region x,y,width,height)."
        )
    if width * height > max_pixels:
        raise BadInput(_too_large(name, f"{width}×{height} px", max_pixels))
    values = pixel_array(dataset, index=0)
    if values.ndim == 2:
        if values.dtype != np.uint8:
            values = np.clip(values.astype(np.float32) * (255 / (2 ** int(dataset.BitsStored) - 1)), 0, 255).astype(np.uint8)
        if dataset.PhotometricInterpretation == "MONOCHROME1":
            values = 255 - values
        values = np.repeat(values[..., None], 3, axis=-1)
    pixels, note = to_eight_bits(name, values)
    scale = scales.of_dicom(dataset)
    further = f"it has {frames} frames, of which the first was read" if frames > 1 else ""
    notes = tuple(n for n in (scale.note, further, note) if n)
    return LoadedPicture(np.ascontiguousarray(pixels), "DICOM", scale.um_per_px, scale.source, notes)
