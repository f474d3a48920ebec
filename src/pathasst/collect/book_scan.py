"""Scanned pages → lines and graphics: rapidocr (PP-OCR) reads, rapid-layout (CDLA) finds the figures.

Both models lie in their packages; nothing is fetched. Graphics that the layout detector misses are found as large inked areas
without text.
"""

from __future__ import annotations

import logging
import os
from functools import lru_cache
from typing import Any

from pathasst.collect.page_layout import Box, Line, Page, merge
from pathasst.core.errors import MissingPackage


def read_scan(image: Any, width: float, height: float) -> Page:
    """Lines and figure boxes of a page image (PIL, RGB), in points of a page of `width` x `height` points."""
    import numpy as np

    pixels = np.asarray(image)[:, :, ::-1].copy()  # both models take BGR
    scale_x, scale_y = width / image.width, height / image.height

    def points(box: Any) -> Box:
        return float(box[0]) * scale_x, float(box[1]) * scale_y, float(box[2]) * scale_x, float(box[3]) * scale_y

    result = _ocr()(pixels)
    lines = []
    for quad, text in zip([] if result.boxes is None else result.boxes, result.txts or (), strict=False):
        box = points((quad[:, 0].min(), quad[:, 1].min(), quad[:, 0].max(), quad[:, 1].max()))
        lines.append(Line(text, box))
    layout = _layout()(pixels)
    names = [] if layout.class_names is None else layout.class_names
    figures = [
        points(b) for b, name in zip([] if layout.boxes is None else layout.boxes, names, strict=False) if name == "figure"
    ]
    inked = [
        points(b)
        for b in _inked(pixels, [(n.box[0] / scale_x, n.box[1] / scale_y, n.box[2] / scale_x, n.box[3] / scale_y) for n in lines])
    ]
    return Page(width, height, lines, merge([*figures, *inked], 3.0) if figures or inked else [], scanned=True)


def _inked(pixels: Any, words: list[Box]) -> list[Box]:
    """Large areas of ink that hold no words (at most a label or two): photographs and drawings."""
    import cv2
    import numpy as np

    dark = (pixels.min(axis=2) < 225).astype(np.uint8)
    for x1, y1, x2, y2 in words:
        if x2 - x1 > 8 * (y2 - y1):  # long lines are running text; short ones may be labels inside a picture
            dark[max(0, int(y1) - 2) : int(y2) + 3, max(0, int(x1) - 2) : int(x2) + 3] = 0
    step = max(1, pixels.shape[1] // 400)
    small = cv2.resize(dark, (pixels.shape[1] // step, pixels.shape[0] // step), interpolation=cv2.INTER_AREA)
    closed = cv2.morphologyEx((small > 0).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    count, _, stats, _ = cv2.connectedComponentsWithStats(closed)
    areas = []
    for x, y, w, h, area in stats[1:count]:
        if w * h > 0.012 * small.size and min(w, h) > 0.06 * small.shape[1] and area > 0.5 * w * h and w * h < 0.9 * small.size:
            areas.append((x * step, y * step, (x + w) * step, (y + h) * step))
    return areas


@lru_cache(maxsize=1)
def _ocr() -> Any:
    try:
        from rapidocr import RapidOCR
    except ImportError as error:
        raise MissingPackage("Scanned pages need OCR: pip install 'rapidocr~=3.10'") from error
    return RapidOCR(params={"Global.log_level": "error", **_threads("EngineConfig.onnxruntime.intra_op_num_threads")})


@lru_cache(maxsize=1)
def _layout() -> Any:
    try:
        from rapid_layout import RapidLayout
    except ImportError as error:
        raise MissingPackage("Scanned pages need a layout detector: pip install 'rapid-layout~=1.2'") from error
    before = logging.root.manager.disable
    logging.disable(logging.INFO)  # its loggers set their own levels, and tell of every file that they open
    try:
        return RapidLayout(model_type="pp_layout_cdla", conf_thresh=0.4)
    finally:
        logging.disable(before)


def _threads(key: str) -> dict[str, int]:
    return {key: max(1, min(4, os.cpu_count() or 1))}
