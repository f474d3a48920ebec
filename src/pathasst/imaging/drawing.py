"""Annotated pictures for the person: points, boxes and masks of a ToolResult drawn with `supervision`, and a legend with counts.

Knows annotations and colours, no tool.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pathasst.core.records import Annotation
from pathasst.imaging import rle
from pathasst.imaging.pictures import encode_png

if TYPE_CHECKING:
    import supervision as sv

COLOURS = {"positive": "#e5352b", "negative": "#1f6fe0", "0": "#1f6fe0", "1+": "#f2c500", "2+": "#f28500", "3+": "#e5352b"}
"""Fixed colours of labels that pathologists know; others take the palette below, in the order they appear."""
PALETTE = ("#00a878", "#8e44ad", "#e67e22", "#16a2b8", "#c2185b", "#7cb342", "#5c6bc0", "#8d6e63", "#fdd835", "#455a64")
MIN_SHOWN = 512
"""Smaller pictures are enlarged to this before drawing, so that marks and legend stay readable."""


def colours_of(labels: Sequence[str]) -> dict[str, str]:
    """A colour for each label, the same for the same list."""
    free = iter(range(10**6))
    return {label: COLOURS.get(label) or PALETTE[next(free) % len(PALETTE)] for label in dict.fromkeys(labels)}


def annotate(image: np.ndarray, annotations: Sequence[Annotation], per_object: bool = False) -> bytes:
    """The picture with everything drawn in, and a legend below it, as PNG.

    `image`: H×W×3 uint8 RGB. `per_object` gives every mask its own colour instead of its label's.
    """
    import cv2

    labels = [a.label for a in annotations]
    colours = colours_of(labels)
    zoom = max(1, round(MIN_SHOWN / max(image.shape[:2])))
    scene = cv2.resize(image, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC) if zoom > 1 else image
    scene = np.ascontiguousarray(scene[..., ::-1])  # supervision draws in OpenCV's BGR
    for kind in ("mask", "box", "point"):
        chosen = [a for a in annotations if a.kind == kind]
        few = len(PALETTE) if kind == "mask" else max(len(chosen), 1)  # hundreds of whole masks at once would fill the memory
        for start in range(0, len(chosen), few):
            scene = _draw(kind, scene, chosen[start : start + few], colours, image.shape, zoom, per_object)
    rgb = np.ascontiguousarray(scene[..., ::-1])
    return encode_png(np.vstack([rgb, _legend(rgb.shape[1], Counter(labels), colours)]) if labels else rgb)


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
    chosen: Sequence[Annotation],
    colours: dict[str, str],
    shape: tuple[int, ...],
    zoom: int,
    each: bool,
) -> np.ndarray:
    import supervision as sv

    names = list(colours)
    found = _detections(chosen, names, shape, zoom)
    palette = sv.ColorPalette.from_hex(list(PALETTE) if each else list(colours.values()))
    lookup = sv.ColorLookup.INDEX if each else sv.ColorLookup.CLASS
    thin = max(1, round(max(scene.shape[:2]) / 700))
    if kind == "mask":
        filled = sv.MaskAnnotator(palette, opacity=0.4, color_lookup=lookup).annotate(scene.copy(), found)
        return np.asarray(sv.PolygonAnnotator(palette, thickness=thin, color_lookup=lookup).annotate(filled, found))
    if kind == "box":
        boxed = sv.BoxAnnotator(palette, thickness=thin + 1, color_lookup=lookup).annotate(scene.copy(), found)
        texts, line = [f"{a.label} {a.score:.2f}" for a in chosen], 12 + 4 * thin
        found.xyxy[:, 1] = found.xyxy[:, 1].clip(min=line)  # a label stands on its box, or within one that touches the top edge
        label = sv.LabelAnnotator(palette, color_lookup=lookup, text_scale=0.35 + 0.1 * thin, text_padding=2)
        return np.asarray(label.annotate(boxed, found, texts))
    white = sv.Color.WHITE
    dot = sv.DotAnnotator(palette, radius=3 + thin, color_lookup=lookup, outline_thickness=1, outline_color=white)
    return np.asarray(dot.annotate(scene.copy(), found))


def _legend(width: int, counts: Counter[str], colours: dict[str, str]) -> np.ndarray:
    """A white strip with a coloured dot, the label and its count for each label; wraps to as many lines as needed."""
    from PIL import Image, ImageDraw, ImageFont

    font, line = ImageFont.load_default(16), 24
    places, x, y = [], 8, 0
    known = [label for label in COLOURS if label in counts]  # grades rise from left to right
    for label in [*known, *(label for label in counts if label not in COLOURS)]:
        n = counts[label]
        text = f"{label}: {n}"
        need = 20 + int(font.getlength(text)) + 16
        if x > 8 and x + need > width:
            x, y = 8, y + line
        places.append((x, y, label, text))
        x += need
    strip = Image.new("RGB", (width, y + line + 4), "white")
    pen = ImageDraw.Draw(strip)
    for x, y, label, text in places:
        pen.ellipse([x, y + 7, x + 12, y + 19], fill=colours[label])
        pen.text((x + 18, y + 3), text, fill="black", font=font)
    return np.asarray(strip)
