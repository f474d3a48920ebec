"""One small picture in every format that a slide comes in."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 1500, 1100
SPOTS = [(101.5, 80.25), (700.0, 500.5), (1333.25, 140.75), (256.0, 1000.0), (1204.5, 903.0)]
"""Middles of dark spots, px."""
RADIUS = 14.0


def picture() -> np.ndarray:
    """H×W×3 uint8: pink ground, a gradient so that no two tiles are alike, and dark spots at exact places."""
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    ground = np.stack([np.full(x.shape, 235.0), 190 + 20 * x / WIDTH, 215 - 20 * y / HEIGHT], -1)
    for sx, sy in SPOTS:
        ground *= 1 - 0.8 * np.exp(-((x - sx) ** 2 + (y - sy) ** 2) / (2 * RADIUS**2))[..., None]
    return ground.round().astype(np.uint8)


def halves(pixels: np.ndarray, levels: int) -> list[np.ndarray]:
    """The picture, and smaller ones by whole factors of 2, rounded down as scanners do."""
    pyramid = [pixels]
    for _ in range(levels - 1):
        p = pyramid[-1][: pyramid[-1].shape[0] // 2 * 2, : pyramid[-1].shape[1] // 2 * 2].astype(np.float32)
        small = (p[::2, ::2] + p[1::2, ::2] + p[::2, 1::2] + p[1::2, 1::2]) / 4
        pyramid.append(small.round().astype(np.uint8))
    return pyramid


def pyramid_tiff(folder: Path) -> Path:
    import tifffile

    path = folder / "pyramid.tif"
    with tifffile.TiffWriter(path) as writer:
        for i, level in enumerate(halves(picture(), 3)):
            scale = 20000 / 2**i  # px per cm: 0.5 µm
            writer.write(
                level, tile=(256, 256), photometric="rgb", compression="zlib", resolution=(scale, scale),
                resolutionunit="CENTIMETER", subfiletype=int(i > 0), metadata=None,
            )  # fmt: skip
    return path


def ome_subifd(folder: Path) -> Path:
    import tifffile

    path, levels = folder / "levels.ome.tif", halves(picture(), 3)
    metadata = {"axes": "YXS", "PhysicalSizeX": 500.0, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.5, "PhysicalSizeYUnit": "µm"}
    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        writer.write(levels[0], tile=(256, 256), photometric="rgb", compression="zlib", subifds=2, metadata=metadata)
        for level in levels[1:]:
            writer.write(level, tile=(256, 256), photometric="rgb", compression="zlib", subfiletype=1, metadata=None)
    return path


def ome_planar(folder: Path) -> Path:
    import tifffile

    path = folder / "planar.ome.tif"
    planes = np.moveaxis(picture(), -1, 0).copy()
    metadata = {"axes": "CYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    tifffile.imwrite(path, planes, photometric="minisblack", tile=(256, 256), metadata=metadata, ome=True)
    return path


def deep(folder: Path) -> Path:
    import tifffile

    path = folder / "deep.tif"
    tifffile.imwrite(path, picture().astype(np.uint16) * 257, photometric="rgb", rowsperstrip=16, metadata=None)
    return path


def strips(folder: Path) -> Path:
    import tifffile

    path = folder / "strips.tif"
    tifffile.imwrite(path, picture(), photometric="rgb", rowsperstrip=32, compression="lzw", metadata=None)
    return path


def one_strip(folder: Path) -> Path:
    import tifffile

    path = folder / "one.tif"
    tifffile.imwrite(path, picture(), photometric="rgb", rowsperstrip=HEIGHT, compression="zlib", metadata=None)
    return path


def png(folder: Path) -> Path:
    Image.fromarray(picture()).save(folder / "flat.png")
    return folder / "flat.png"


def jpeg(folder: Path) -> Path:
    Image.fromarray(picture()).save(folder / "flat.jpg", quality=95)
    return folder / "flat.jpg"


def deep_zoom(folder: Path) -> Path:
    import pyvips

    pyvips.Image.new_from_array(picture()).dzsave(str(folder / "zoom"), suffix=".png", tile_size=254, overlap=1)
    return folder / "zoom.dzi"


def dicom(folder: Path) -> Path:
    """A folder of two files, one a level, as a WSI converter writes it."""
    place = folder / "dicom"
    place.mkdir()
    from pydicom.uid import generate_uid

    series = generate_uid()
    for i, level in enumerate(halves(picture(), 2)):
        _dicom_level(place / f"level{i}.dcm", level, 0.0005 * 2**i, series, i)
    return place


def _dicom_level(path: Path, pixels: np.ndarray, mm: float, series: str, number: int) -> None:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEGBaseline8Bit, VLWholeSlideMicroscopyImageStorage, generate_uid

    size, (height, width) = 256, pixels.shape[:2]
    padded = np.pad(pixels, ((0, -height % size), (0, -width % size), (0, 0)), constant_values=255)
    frames = []
    for y in range(0, padded.shape[0], size):
        for x in range(0, padded.shape[1], size):
            sink = io.BytesIO()
            Image.fromarray(padded[y : y + size, x : x + size]).save(sink, "JPEG", quality=97, subsampling=0)
            frames.append(sink.getvalue())
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = VLWholeSlideMicroscopyImageStorage
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = generate_uid()
    ds.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    ds.SeriesInstanceUID, ds.StudyInstanceUID, ds.FrameOfReferenceUID = series, generate_uid(), generate_uid()
    ds.Modality, ds.InstanceNumber = "SM", number + 1
    ds.PatientName, ds.PatientID = "Test^Only", "0"
    ds.ImageType = ["ORIGINAL" if number == 0 else "DERIVED", "PRIMARY", "VOLUME", "NONE" if number == 0 else "RESAMPLED"]
    ds.DimensionOrganizationType = "TILED_FULL"
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "YBR_FULL_422", 0
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit, ds.PixelRepresentation = 7, 0
    ds.Rows = ds.Columns = size
    ds.TotalPixelMatrixColumns, ds.TotalPixelMatrixRows = width, height
    ds.NumberOfFrames = len(frames)
    ds.ImagedVolumeWidth, ds.ImagedVolumeHeight = width * mm, height * mm
    ds.TotalPixelMatrixFocalPlanes, ds.NumberOfOpticalPaths = 1, 1
    measures, shared, path_item = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing = [mm, mm]
    shared.PixelMeasuresSequence = [measures]
    ds.SharedFunctionalGroupsSequence = [shared]
    path_item.OpticalPathIdentifier = "1"
    ds.OpticalPathSequence = [path_item]
    ds.PixelData = encapsulate(frames)
    ds["PixelData"].is_undefined_length = True
    ds.save_as(path, enforce_file_format=True)


FORMATS: dict[str, tuple[Callable[[Path], Path], int, float | None]] = {
    "pyramid_tiff": (pyramid_tiff, 3, 0.5),
    "ome_subifd": (ome_subifd, 3, 0.5),
    "ome_planar": (ome_planar, 1, 0.5),
    "deep": (deep, 1, None),
    "strips": (strips, 1, None),
    "png": (png, 1, None),
    "jpeg": (jpeg, 1, None),
    "deep_zoom": (deep_zoom, 4, None),
    "dicom": (dicom, 2, 0.5),
}
"""Name → how to make it, how many levels it has, the scale it states."""


def middle(image: np.ndarray, x: float, y: float, radius: float) -> tuple[float, float]:
    """The middle of mass of the darkness around x, y px of an image, px with centres at +0.5."""
    x1, y1 = max(math.floor(x - radius), 0), max(math.floor(y - radius), 0)
    part = 255.0 - image[y1 : math.ceil(y + radius), x1 : math.ceil(x + radius)].mean(-1)
    dark = np.clip(part - (part.min() + 0.15 * np.ptp(part)), 0, None)
    rows, columns = np.mgrid[: part.shape[0], : part.shape[1]] + 0.5
    return x1 + float((dark * columns).sum() / dark.sum()), y1 + float((dark * rows).sum() / dark.sum())
