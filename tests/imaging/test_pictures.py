"""Every odd picture becomes RGB of the right values, or an error that says why."""

import io
import re
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pydicom
import pytest
import tifffile
from PIL import Image, ImageOps

from pathasst.core.errors import BadInput, MissingPackage
from pathasst.imaging import pictures
from pathasst.imaging.pictures import is_dark_field, is_grey, load, read, read_header, read_labels, require_side, thumbnail


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
def test_colours_in_separate_planes_are_put_together(tmp_path, bits):
    pixels = np.random.default_rng(0).integers(0, 2**bits, (16, 16, 3)).astype(f"uint{bits}")
    tifffile.imwrite(tmp_path / "x.tif", pixels.transpose(2, 0, 1), photometric="rgb", planarconfig="separate")
    assert np.array_equal(load(tmp_path / "x.tif"), np.round(pixels * (255 / (2**bits - 1))))


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


def tiff(pixels: np.ndarray, **options) -> bytes:
    sink = io.BytesIO()
    tifffile.imwrite(sink, pixels, **options)
    return sink.getvalue()


COLOURS = np.random.default_rng(3).integers(0, 256, (24, 32, 3), dtype=np.uint8)


@pytest.mark.parametrize("kind", ["ome", "imagej"])
def test_channels_in_three_pages_are_one_colour_picture(kind):
    channels = tiff(np.ascontiguousarray(COLOURS.transpose(2, 0, 1)), **{kind: True}, metadata={"axes": "CYX"})
    picture = read(channels)
    assert np.array_equal(picture.pixels, COLOURS) and picture.notes == ()


@pytest.mark.parametrize("kind", ["tiff", "png"])
def test_twelve_bits_of_colour_in_sixteen_are_not_dark(kind):
    deep = COLOURS.astype(np.uint16) * 16
    content = tiff(deep, photometric="rgb") if kind == "tiff" else cv2.imencode(".png", deep[..., ::-1])[1].tobytes()
    picture = read(content)
    assert np.abs(picture.pixels.astype(int) - COLOURS).max() <= 1 and "12-bit" in picture.notes[0]


@pytest.mark.parametrize(
    ("kind", "count"),
    [("TIFF", "3 pages"), ("GIF", "several frames"), ("WEBP", "several frames"), ("PNG", "several frames")],
)
def test_further_pages_are_named(kind, count):
    pages = [Image.new("RGB", (16, 16), colour) for colour in ("red", "green", "blue")]
    picture = read(encoded(pages[0], kind, save_all=True, append_images=pages[1:]))
    assert count in picture.notes[0] and picture.pixels[0, 0, 0] > 200
    assert read(encoded(pages[0], kind)).notes == ()


def test_levels_of_a_pyramid_are_no_pages():
    sink = io.BytesIO()
    with tifffile.TiffWriter(sink) as file:
        file.write(COLOURS, photometric="rgb")
        file.write(np.ascontiguousarray(COLOURS[::2, ::2]), photometric="rgb", subfiletype=1)
    assert read(sink.getvalue()).notes == ()


@pytest.mark.parametrize("kind", ["JPEG2000", "AVIF", "WEBP", "BMP", "PPM"])
def test_less_common_formats_are_read(kind):
    flat = Image.new("RGB", (32, 24), (200, 60, 120))
    assert np.abs(load(encoded(flat, kind)).astype(int) - (200, 60, 120)).max() <= 6


def test_a_heic_photograph_is_read_or_the_extra_named(tmp_path, monkeypatch):
    head = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    with pytest.raises(MissingPackage, match=r"pathasst\[heic\]"):
        load(head)
    monkeypatch.undo()
    pytest.importorskip("pi_heif")
    with pytest.raises(BadInput):
        load(head)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_every_orientation_is_pillows(kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(Image.fromarray(COLOURS), kind, exif=exif)
    with Image.open(io.BytesIO(content)) as opened:
        upright = np.asarray(ImageOps.exif_transpose(opened))
    header = read_header(content)
    assert np.array_equal(load(content), upright) and (header.height, header.width) == upright.shape[:2]
    assert thumbnail(content, 999).size == upright.shape[1::-1]


def test_orientation_holds_for_deep_colours_too():
    content = tiff(COLOURS.astype(np.uint16) * 257, photometric="rgb", extratags=[(274, "H", 1, 6, True)])
    assert np.array_equal(load(content), np.rot90(COLOURS, -1))


def test_labels_keep_their_values():
    values = np.array([[0, 1], [300, 65535]], np.uint16)
    assert read_labels_of(Image.fromarray(values)).tolist() == values.tolist()
    palette = Image.new("P", (3, 2), 7)
    palette.putpalette(list(range(256)) * 3)
    assert (read_labels_of(palette) == 7).all()
    with pytest.raises(BadInput, match="colour picture"):
        read_labels_of(Image.fromarray(COLOURS))


def read_labels_of(image: Image.Image) -> np.ndarray:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "mask.png"
        file.write_bytes(encoded(image))
        return read_labels(file)


def dicom(pixels: np.ndarray, **attributes) -> bytes:
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.77.1.2"  # VL microscopic
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset.set_pixel_data(pixels, "RGB" if pixels.ndim == 3 else "MONOCHROME2", 8 * pixels.itemsize)
    for name, value in attributes.items():
        setattr(dataset, name, value)
    sink = io.BytesIO()
    dataset.save_as(sink, enforce_file_format=True)
    return sink.getvalue()


def test_dicom_gives_pixels_and_scale():
    picture = read(dicom(COLOURS, PixelSpacing=[0.0005, 0.0005]))
    assert np.array_equal(picture.pixels, COLOURS)
    assert (picture.um_per_px, picture.scale_source) == (pytest.approx(0.5), "DICOM pixel spacing")
    assert load(dicom(np.full((8, 8), 4095, np.uint16), BitsStored=12, HighBit=11)).max() == 255
    with pytest.raises(BadInput, match="damaged"):
        load(dicom(COLOURS)[:-500])
    with pytest.raises(BadInput, match="DICOM slide of 9000×9000"):
        load(dicom(COLOURS, TotalPixelMatrixColumns=9000, TotalPixelMatrixRows=9000))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"ome": True, "metadata": {"PhysicalSizeX": 0.25, "PhysicalSizeXUnit": "µm"}}, (0.25, "OME-XML")),
        ({"ome": True, "metadata": {"PhysicalSizeX": 250, "PhysicalSizeXUnit": "nm"}}, (0.25, "OME-XML")),
        (
            {"description": "Aperio Image Library v11.2.1\n|AppMag = 20|MPP = 0.4990", "metadata": None},
            (0.499, "Aperio description"),
        ),
        ({"description": "Aperio Image Library|AppMag = 40|MPP = 0,2522", "metadata": None}, (0.2522, "Aperio description")),
        (
            {"description": "<OME><Image><Pixels ID='P' PhysicalSizeX='0.5' SizeX='3'/></Image></OME>", "metadata": None},
            (0.5, "OME-XML"),
        ),
        ({"resolution": (20000, 20000), "resolutionunit": "CENTIMETER"}, (0.5, "TIFF resolution")),
    ],
)
def test_scales_in_metadata(options, expected):
    picture = read(tiff(COLOURS, photometric="rgb", **options))
    assert (picture.um_per_px, picture.scale_source) == (pytest.approx(expected[0]), expected[1]) and not picture.notes


def test_the_scale_of_imagej():
    grey = np.ascontiguousarray(COLOURS[..., 0])
    assert read(tiff(grey, imagej=True, resolution=(2, 2), metadata={"unit": "um"})).um_per_px == pytest.approx(0.5)
    assert read(tiff(grey, imagej=True, resolution=(2, 2), metadata={"unit": "pixel"})).um_per_px is None


@pytest.mark.parametrize("dpi", [72, 96, 300, 600, 1200])
def test_a_print_resolution_is_no_scale(dpi):
    picture = read(tiff(COLOURS, photometric="rgb", resolution=(dpi, dpi), resolutionunit="INCH"))
    assert picture.um_per_px is None and "not believed" in picture.notes[0]
    assert read(encoded(Image.fromarray(COLOURS), "JPEG", dpi=(dpi, dpi))).notes == ()  # every JPEG has one: not worth a word


def test_one_module_opens_pictures():
    source = Path(pictures.__file__).parents[1]
    opening = re.compile(r"\bImage\.open\(|\bcv2\.imread\(")
    assert [f.name for f in source.rglob("*.py") if opening.search(f.read_text(encoding="utf-8"))] == ["pictures.py"]
