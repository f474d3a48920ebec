"""Annotated pictures for the person: points, boxes and masks of a ToolResult drawn with `supervision`, and a legend with counts.

Knows annotations and colours, no tool.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

import numpy as np

from pathasst.core.records import Annotation
from pathasst.imaging import rle
from pathasst.imaging.pictures import encode_png

if TYPE_CHECKING:
    import supervision as sv

COLOURS = {"positive": "#e5352b", "negative": "#1f6fe0", "0": "#1f6fe0", "1+": "#f2c500", "2+": "#f28500", "3+": "#e5352b"}
COLOURS |= {"WBC": "#8e44ad", "RBC": "#e5352b", "Platelets": "#1f6fe0"}
COLOURS |= {"NILM": "#00a878", "ASC-US": "#f2c500", "LSIL": "#f28500", "ASC-H": "#c2185b", "HSIL": "#e5352b", "SCC": "#8e44ad"}
COLOURS |= {"nucleus": "#0bdc5b"}
"""Fixed colours of the labels of our tools; any other label has one of the palette, the same in every picture."""
PALETTE = ("#00a878", "#8e44ad", "#e67e22", "#16a2b8", "#c2185b", "#7cb342", "#5c6bc0", "#8d6e63", "#fdd835", "#455a64")
MANY_BOXES = 30
"""Above this number of boxes their labels would hide the cells: colours and legend say the class."""
MANY_MASKS = 60
"""Above this number of masks only their outlines are drawn, which takes no time and hides nothing."""
MIN_SHOWN = 512
"""Smaller pictures are enlarged to this before drawing, so that marks and legend stay readable."""


_drawing = ContextVar("drawing", default=True)


@contextmanager
def without_pictures() -> Iterator[None]:
    """`annotate` draws nothing inside: nobody looks at each of a slide's thousands of tiles, and drawing is a tenth of a run."""
    token = _drawing.set(False)
    try:
        yield
    finally:
        _drawing.reset(token)


def colours_of(labels: Sequence[str]) -> dict[str, str]:
    """A colour for each label, which depends on the label alone."""
    return {label: COLOURS.get(label) or PALETTE[zlib.crc32(label.encode()) % len(PALETTE)] for label in dict.fromkeys(labels)}


def rgb(colour: str) -> tuple[int, int, int]:
    """`#rrggbb` as red, green, blue."""
    red, green, blue = bytes.fromhex(colour.lstrip("#"))
    return red, green, blue


def annotate(image: np.ndarray, annotations: Sequence[Annotation], per_object: bool = False) -> bytes:
    """The picture with everything drawn in, and a legend below it, as PNG; empty inside of `without_pictures`.

    `image`: H×W×3 uint8 RGB. `per_object` gives every mask its own colour instead of its label's.
    """
    if not _drawing.get():
        return b""
    import cv2

    labels = [a.label for a in annotations]
    colours = colours_of(labels)
    zoom = max(1, round(MIN_SHOWN / max(image.shape[:2])))
    scene = cv2.resize(image, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC) if zoom > 1 else image
    scene = np.ascontiguousarray(scene[..., ::-1])  # supervision draws in OpenCV's BGR
    for kind in ("mask", "box", "point"):
        same_kind = [a for a in annotations if a.kind == kind]
        if kind == "mask" and len(same_kind) > MANY_MASKS:
            scene = _draw_outlines(scene, same_kind, colours, image.shape[:2], zoom, per_object)
            continue
        few = len(PALETTE) if kind == "mask" else max(len(same_kind), 1)  # hundreds of whole masks at once would fill the memory
        for start in range(0, len(same_kind), few):
            scene = _draw(kind, scene, same_kind[start : start + few], colours, image.shape, zoom, per_object)
    picture = np.ascontiguousarray(scene[..., ::-1])
    return encode_png(np.vstack([picture, _legend(picture.shape, Counter(labels), colours)]) if labels else picture)


def _detections(annotations: Sequence[Annotation], names: list[str], shape: tuple[int, ...], zoom: int) -> sv.Detections:
    import cv2
    import supervision as sv

    corners = [a.coordinates * 2 if a.kind == "point" else a.coordinates for a in annotations]
    mask = None
    if annotations[0].kind == "mask":
        masks = [rle.decode(a.rle, *shape[:2]).astype(np.uint8) for a in annotations]
        size = (shape[1] * zoom, shape[0] * zoom)
        mask = np.array([cv2.resize(m, size, interpolation=cv2.INTER_NEAREST) > 0 for m in masks])
    return sv.Detections(
        xyxy=np.array(corners, np.float32).reshape(-1, 4) * zoom,
        mask=mask,
        confidence=np.array([a.score for a in annotations], np.float32),
        class_id=np.array([names.index(a.label) for a in annotations]),
    )


def _draw(
    kind: str,
    scene: np.ndarray,
    annotations: Sequence[Annotation],
    colours: dict[str, str],
    shape: tuple[int, ...],
    zoom: int,
    each: bool,
) -> np.ndarray:
    import supervision as sv

    names = list(colours)
    detections = _detections(annotations, names, shape, zoom)
    palette = sv.ColorPalette.from_hex(list(PALETTE) if each else list(colours.values()))
    lookup = sv.ColorLookup.INDEX if each else sv.ColorLookup.CLASS
    thin = max(1, round(max(scene.shape[:2]) / 700))
    if kind == "mask":
        filled = sv.MaskAnnotator(palette, opacity=0.4, color_lookup=lookup).annotate(scene.copy(), detections)
        return np.asarray(sv.PolygonAnnotator(palette, thickness=thin, color_lookup=lookup).annotate(filled, detections))
    if kind == "box":
        boxed = sv.BoxAnnotator(palette, thickness=thin + 1, color_lookup=lookup).annotate(scene.copy(), detections)
        if len(annotations) > MANY_BOXES:
            return np.asarray(boxed)
        texts, line = [f"{a.label} {a.score:.2f}" for a in annotations], 12 + 4 * thin
        detections.xyxy[:, 1] = detections.xyxy[:, 1].clip(
            min=line
        )  # a label stands on its box, or within one that touches the top edge
        label = sv.LabelAnnotator(palette, color_lookup=lookup, text_scale=0.35 + 0.1 * thin, text_padding=2)
        return np.asarray(label.annotate(boxed, detections, texts))
    white = sv.Color.WHITE
    dot = sv.DotAnnotator(palette, radius=3 + thin, color_lookup=lookup, outline_thickness=1, outline_color=white)
    return np.asarray(dot.annotate(scene.copy(), detections))


def _draw_outlines(
    scene: np.ndarray, marks: Sequence[Annotation], colours: dict[str, str], shape: tuple[int, int], zoom: int, each: bool
) -> np.ndarray:
    """The outlines of many masks."""
    import cv2

    canvas, thin = scene.copy(), max(1, round(max(scene.shape[:2]) / 700))
    for number, mark in enumerate(marks):
        x1, y1, x2, y2 = (int(v) for v in mark.coordinates)
        part = rle.decode_box(mark.rle, shape[0], shape[1], (x1, y1, x2, y2)).astype(np.uint8)
        if zoom > 1:
            part = np.repeat(np.repeat(part, zoom, 0), zoom, 1)
        contours, _ = cv2.findContours(part, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        bgr = rgb(PALETTE[number % len(PALETTE)] if each else colours[mark.label])[::-1]
        cv2.drawContours(canvas, contours, -1, bgr, thin, cv2.LINE_8, offset=(x1 * zoom, y1 * zoom))
    return canvas


def _legend(shape: tuple[int, ...], counts: Counter[str], colours: dict[str, str]) -> np.ndarray:
    """A white strip with a coloured dot, the label and its count for each label; wraps, and grows with the picture of `shape`."""
    from PIL import Image, ImageDraw, ImageFont

    width, size = shape[1], max(16, round(max(shape[:2]) / 48))
    font, line, dot = ImageFont.load_default(size), round(size * 1.5), round(size * 0.75)
    places, x, y = [], dot, 0
    fixed = [label for label in COLOURS if label in counts]  # grades rise from left to right
    for label in [*fixed, *(label for label in counts if label not in COLOURS)]:
        text = f"{label}: {counts[label]}"
        need = 2 * dot + int(font.getlength(text)) + size
        if x > dot and x + need > width:
            x, y = dot, y + line
        places.append((x, y, label, text))
        x += need
    strip = Image.new("RGB", (width, y + line + 4), "white")
    pen = ImageDraw.Draw(strip)
    for x, y, label, text in places:
        top = y + (line - dot) // 2 + 2
        pen.ellipse([x, top, x + dot, top + dot], fill=colours[label])
        pen.text((x + round(dot * 1.5), y + (line - size) // 2), text, fill="black", font=font)
    return np.asarray(strip)
