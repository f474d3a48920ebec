"""Samples of more than 8 bits: read whole, where Pillow keeps the high bytes alone or mixes planes, and brought to 8 bits."""

from __future__ import annotations

import io

import numpy as np

from pathasst.core.errors import BadInput


def deep_colours(name: str, content: bytes, tiff: bool) -> np.ndarray:
    """H×W×3 of more than 8 bits, interleaved; transparency lies on white."""
    if tiff:
        import tifffile

        with tifffile.TiffFile(io.BytesIO(content)) as file:
            page = file.pages.first
            planar = page.planarconfig == tifffile.PLANARCONFIG.SEPARATE
            try:
                values = page.asarray()
            except ValueError:  # without imagecodecs it reads few compressions
                values = _by_opencv(name, content)
                planar = False
        values = np.moveaxis(values, 0, -1) if planar and values.ndim == 3 else values
    else:
        values = _by_opencv(name, content)
    if values.ndim != 3 or values.shape[-1] < 3:
        raise BadInput(f"{name} holds no red, green and blue of more than 8 bits, though its header says so.")
    if values.shape[-1] == 4:
        white = float(np.iinfo(values.dtype).max) if values.dtype.kind == "u" else 1.0
        share = values[..., 3:].astype(np.float32) / white
        values = (values[..., :3] * share + white * (1 - share)).astype(values.dtype)
    return np.asarray(values[..., :3])


def _by_opencv(name: str, content: bytes) -> np.ndarray:
    import cv2

    values = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
    if values is None or values.ndim != 3:
        raise BadInput(f"{name} cannot be decoded; save it as an 8-bit picture.")
    return np.asarray(values[..., [2, 1, 0, 3][: values.shape[-1]]])


def to_eight_bits(name: str, values: np.ndarray) -> tuple[np.ndarray, str]:
    """16-bit, 32-bit or float channels as 8 bits. Values up to 4095 in more than 8 bits are a camera's 12."""
    if values.dtype == np.uint8:
        return values, ""
    top = float(np.nanmax(values)) if values.size else 0.0
    if not np.isfinite(values).all() or float(values.min()) < 0 or top > 65535:
        raise BadInput(f"{name} holds values outside of 0–65535; save it as an 8- or 16-bit picture.")
    if values.dtype.kind == "f":
        white = 1.0 if top <= 1 else 255.0 if top <= 255 else 65535.0
    else:
        white = 255.0 if top <= 255 else 4095.0 if top <= 4095 else 65535.0
    eight = np.round(values.astype(np.float32) * (255 / white)).clip(0, 255).astype(np.uint8)
    return eight, "its values were taken as 12-bit" if white == 4095.0 else ""
