"""Every odd picture becomes RGB of the right values, or an error that says why."""

import io

import numpy as np
import pytest
from PIL import Image

from pathasst.core.errors import BadInput
from pathasst.imaging.pictures import is_dark_field, is_grey, load, require_side


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    sink = io.BytesIO()
    image.save(sink, kind, **options)
    return sink.getvalue()


def test_rgb_png_comes_back_unchanged():
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    out = load(encoded(Image.fromarray(pixels)))
    assert out.dtype == np.uint8 and np.array_equal(out, pixels)


def test_grey_is_repeated_over_the_channels():
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    assert np.array_equal(load(encoded(Image.fromarray(grey))), np.repeat(grey[..., None], 3, -1))


@pytest.mark.parametrize(("top", "expected"), [(65535, 255), (4095, 255), (255, 255)])
def test_deep_grey_is_scaled_by_its_bit_depth(top, expected):
    deep = np.array([[0, top], [top // 2, top]], np.uint16)
    out = load(encoded(Image.fromarray(deep), "TIFF"))
    assert out.shape == (2, 2, 3) and out[0, 1, 0] == expected and out[0, 0, 0] == 0
    assert abs(int(out[1, 0, 0]) - 127) <= 1


def test_float_with_negative_values_is_refused():
    with pytest.raises(BadInput, match="0–65535"):
        load(encoded(Image.fromarray(np.array([[-1.0, 2.0]], np.float32)), "TIFF"))


@pytest.mark.parametrize("bits", [8, 16])
def test_colours_in_separate_planes_come_back_right_or_not_at_all(tmp_path, bits):
    tifffile = pytest.importorskip("tifffile")
    pixels = np.random.default_rng(0).integers(0, 2**bits, (16, 16, 3)).astype(f"uint{bits}")
    tifffile.imwrite(tmp_path / "x.tif", pixels.transpose(2, 0, 1), photometric="rgb", planarconfig="separate")
    if bits == 16:  # Pillow would give noise
        with pytest.raises(BadInput, match="separate planes"):
            load(tmp_path / "x.tif")
        pixels = (pixels >> 8).astype(np.uint8)
        tifffile.imwrite(tmp_path / "x.tif", pixels, photometric="rgb")
    assert np.array_equal(load(tmp_path / "x.tif"), pixels)


def test_cmyk_becomes_rgb():
    out = load(encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=95))
    assert out[4, 4, 0] > 200 and out[4, 4, 1] < 60


def test_transparency_lies_on_white():
    clear = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    assert (load(encoded(clear)) == 255).all()
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([0, 0, 0] * 256)
    assert (load(encoded(palette, transparency=0)) == 255).all()


def test_the_first_frame_of_an_animation_is_taken():
    frames = [Image.new("RGB", (6, 6), colour) for colour in ("red", "blue")]
    out = load(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert tuple(out[3, 3]) == (254, 0, 0) or tuple(out[3, 3]) == (255, 0, 0)


def test_exif_orientation_is_applied():
    image = Image.new("RGB", (10, 4), "white")
    exif = image.getexif()
    exif[0x0112] = 6  # rotate by 90° to view
    assert load(encoded(image, "JPEG", exif=exif)).shape == (10, 4, 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "GIF"])
def test_a_truncated_file_is_refused(kind):
    pixels = np.random.default_rng(1).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    content = encoded(Image.fromarray(pixels), kind)
    with pytest.raises(BadInput):
        load(content[: len(content) // 2])


def test_too_many_pixels_are_refused_before_decoding():
    # A PNG header that promises 100,000 × 100,000 px; there is nothing behind it to decode.
    import struct
    import zlib

    head = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + head + struct.pack(">I", zlib.crc32(b"IHDR" + head))
    data = struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    with pytest.raises(BadInput):
        load(b"\x89PNG\r\n\x1a\n" + chunk + data)
    with pytest.raises(BadInput, match=r"30000×40 px.*region"):
        load(encoded(Image.new("RGB", (30_000, 40))), max_pixels=1_000_000)


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "empty"), (b"not a picture at all", "not a picture"), (b"%PDF-1.4 x", "not a picture")]
)
def test_what_is_no_picture_is_refused(content, message):
    with pytest.raises(BadInput, match=message):
        load(content)


def test_a_missing_file_names_its_path(tmp_path):
    with pytest.raises(BadInput, match=r"nothing\.png"):
        load(tmp_path / "nothing.png")


def test_grey_dark_and_tiny_pictures_are_recognised():
    rng = np.random.default_rng(2)
    grey = np.repeat(rng.integers(0, 256, (64, 64, 1), dtype=np.uint8), 3, -1)
    brown = np.full((64, 64, 3), 235, np.uint8)
    brown[:20, :20] = (120, 70, 30)
    glow = np.zeros((64, 64, 3), np.uint8)
    glow[10:20, 10:20] = (0, 200, 0)
    assert is_grey(grey) and not is_grey(brown)
    assert is_dark_field(glow) and not is_dark_field(brown)
    with pytest.raises(BadInput, match="64×64 px; this one has 10×10"):
        require_side(np.zeros((10, 10, 3), np.uint8), 64, "The count")
