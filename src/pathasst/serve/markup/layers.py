"""An annotated picture whose classes can be switched on and off: the photograph, and one SVG layer for each class above it.

The switches are check boxes that CSS reads (`:has`), so they work without a script, in the page and in a saved report. Classes
differ in shape as well as in colour.
"""

from __future__ import annotations

import base64
import io
import math
import re
from collections.abc import Sequence

import numpy as np

from pathasst.core.records import Annotation
from pathasst.imaging import rle
from pathasst.imaging.drawing import colours_of
from pathasst.serve.markup.words import escape

MAX_SIDE = 1400
"""Longer side in px of a picture as shown; marks are vectors and stay sharp."""
MAX_LAYERS = 12
"""Classes with a switch of their own; rarer ones share the last."""
FEW_BOXES = 40
"""Up to this many boxes are written upon."""


def layers_html(
    image: bytes, annotations: Sequence[Annotation], alt: str, um_per_px: float | None = None, name: str = "picture"
) -> str:
    """A `<figure>` of an encoded picture with its annotations, and a scale bar where its scale is known.

    `alt`: what the picture is, for those who do not see it. `name`: the file that it came from; a saved copy is called after it.
    """
    from collections import Counter

    pixels = _pixels(image)
    height, width = pixels.shape[:2]
    counts = Counter(a.label for a in annotations)
    labels = [label for label, _ in counts.most_common()]
    names = labels if len(labels) <= MAX_LAYERS else [*labels[: MAX_LAYERS - 1], "other"]
    colours = colours_of(list(dict.fromkeys(a.label for a in annotations)))
    layers, switches = [], []
    for place, label in enumerate(names):
        in_class = [a for a in annotations if a.label == label or (label == "other" and a.label not in names)]
        colour = colours.get(label, "#455a64")
        layers.append(f'<g class="pa-l{place}" style="--c:{colour}">{_marks(in_class, place, (height, width))}</g>')
        switches.append(_switch(label, len(in_class), colour, place, in_class[0].kind))
    described = f"{alt}. " + ", ".join(f"{label}: {counts[label]}" for label in labels[:MAX_LAYERS])
    return (
        f'<figure class="pa-layers" data-name="{escape(_stem(name))}">{_stage(pixels)}{image_html(pixels, described)}'
        f'<svg viewBox="0 0 {width} {height}" preserveAspectRatio="none" aria-hidden="true">{"".join(layers)}'
        f"{scale_bar((height, width), um_per_px)}</svg></div>"
        f'<figcaption class="pa-legend"><span class="pa-quiet">Layers</span>{"".join(switches)}{BUTTONS}</figcaption></figure>'
    )


BUTTONS = (
    '<span class="pa-tools"><button type="button" class="pa-button" data-pa="enlarge">Enlarge</button>'
    '<button type="button" class="pa-button" data-pa="save">Save picture</button></span>'
)


def picture_html(image: bytes, caption: str, alt: str = "", um_per_px: float | None = None) -> str:
    """A plain picture with its caption, and a scale bar where its scale is known."""
    pixels = _pixels(image)
    height, width = pixels.shape[:2]
    bar = scale_bar((height, width), um_per_px)
    above = f'<svg viewBox="0 0 {width} {height}" preserveAspectRatio="none" aria-hidden="true">{bar}</svg>' if bar else ""
    return (
        f'<figure class="pa-picture" data-name="{escape(_stem(caption))}">{_stage(pixels)}'
        f"{image_html(pixels, alt or caption)}{above}</div>"
        f"<figcaption>{escape(caption)}{BUTTONS}</figcaption></figure>"
    )


def scale_bar(size: tuple[int, int], um_per_px: float | None) -> str:
    """A bar of a round length, at most a quarter of the width; empty without a scale. `size`: height, width."""
    height, width = size
    if not um_per_px or width < 32:
        return ""
    most = um_per_px * width / 4
    power = 10 ** math.floor(math.log10(most))
    length = next(step * power for step in (5, 2, 1) if step * power <= most)
    letter = max(size) / 40
    x2, y = width - letter, height - letter
    x1 = x2 - length / um_per_px
    words = f"{length / 1000:g} mm" if length >= 1000 else f"{length:g} µm"
    return (
        f'<g class="pa-scale"><path d="M{x1:.1f} {y:.1f}H{x2:.1f}"/>'
        f'<text x="{(x1 + x2) / 2:.1f}" y="{y - letter / 2:.1f}" font-size="{letter:.1f}" text-anchor="middle">{words}</text></g>'
    )


def _stem(name: str) -> str:
    """A file's name without its ending, as a saved copy is called."""
    stem = name.rsplit(".", 1)[0] if "." in name[-6:] else name
    return re.sub(r"[^\w-]+", "_", stem).strip("_")[:60] or "picture"


def image_html(pixels: np.ndarray, alt: str, max_side: int = MAX_SIDE) -> str:
    """H×W×3 uint8 RGB as an `<img>` that holds its own data."""
    from PIL import Image

    picture = Image.fromarray(pixels)
    picture.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    sink = io.BytesIO()
    small = max(picture.size) <= 64
    picture.save(sink, "PNG" if small else "JPEG", **({} if small else {"quality": 86}))
    data = base64.b64encode(sink.getvalue()).decode()
    size = f'width="{picture.width}" height="{picture.height}"'
    return f'<img alt="{escape(alt)}" {size} src="data:image/{"png" if small else "jpeg"};base64,{data}">'


def _stage(pixels: np.ndarray) -> str:
    return f'<div class="pa-stage" style="--pa-ratio:{pixels.shape[1] / pixels.shape[0]:.4f}">'


def _pixels(image: bytes) -> np.ndarray:
    from pathasst.imaging.pictures import load

    return load(image)


def _switch(name: str, count: int, colour: str, place: int, kind: str) -> str:
    glyph = _shape(place, 7, 7, 5) if kind == "point" else "M2 2H12V12H2Z"
    swatch = f'<svg class="pa-swatch" viewBox="0 0 14 14" aria-hidden="true"><path d="{glyph}" style="--c:{colour}"/></svg>'
    return (
        f'<label class="pa-switch"><input type="checkbox" class="pa-s{place}" checked aria-label="Show {escape(name)}">{swatch}'
        f"{escape(name)} <b>{count}</b></label>"
    )


def _marks(annotations: Sequence[Annotation], place: int, size: tuple[int, int]) -> str:
    """The SVG of one class."""
    radius = max(max(size) / 130, 2.5)
    points = "".join(_shape(place, a.coordinates[0], a.coordinates[1], radius) for a in annotations if a.kind == "point")
    boxes = [a for a in annotations if a.kind == "box"]
    rectangles = "".join(_rectangle(a.coordinates) for a in boxes)
    masks = "".join(_outline(a, size) for a in annotations if a.kind == "mask")
    parts = [f'<path class="pa-points" d="{points}"/>'] if points else []
    parts += [f'<path class="pa-boxes" d="{rectangles}"/>'] if boxes else []
    parts += [f'<path class="pa-masks" d="{masks}"/>'] if masks else []
    if boxes and len(boxes) <= FEW_BOXES:
        letter = max(size) / 45
        parts += [
            f'<text x="{a.coordinates[0]:.1f}" y="{max(a.coordinates[1] - letter / 4, letter):.1f}" font-size="{letter:.1f}">'
            f"{escape(a.label)} {a.score:.2f}</text>"
            for a in boxes
        ]
    return "".join(parts)


def _shape(place: int, x: float, y: float, r: float) -> str:
    """Circle, square, triangle or diamond of about the same weight, as an SVG path."""
    kind = place % 4
    if kind == 1:
        r *= 0.88
        return f"M{x - r:.1f} {y - r:.1f}h{2 * r:.1f}v{2 * r:.1f}h{-2 * r:.1f}Z"
    if kind == 2:
        r *= 1.15
        return f"M{x:.1f} {y - r:.1f}L{x + r:.1f} {y + 0.8 * r:.1f}H{x - r:.1f}Z"
    if kind == 3:
        r *= 1.15
        return f"M{x:.1f} {y - r:.1f}L{x + r:.1f} {y:.1f}L{x:.1f} {y + r:.1f}L{x - r:.1f} {y:.1f}Z"
    return f"M{x - r:.1f} {y:.1f}a{r:.1f} {r:.1f} 0 1 0 {2 * r:.1f} 0a{r:.1f} {r:.1f} 0 1 0 {-2 * r:.1f} 0Z"


def _rectangle(box: Sequence[float]) -> str:
    x1, y1, x2, y2 = box
    return f"M{x1:.1f} {y1:.1f}H{x2:.1f}V{y2:.1f}H{x1:.1f}Z"


def _outline(mask: Annotation, size: tuple[int, int]) -> str:
    """The mask's contours, holes too, as closed lines that leave it by at most one pixel."""
    import cv2

    area = rle.decode(mask.rle, *size).astype(np.uint8)
    contours, _ = cv2.findContours(area, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    lines = [cv2.approxPolyDP(c, 1.0, True)[:, 0] for c in contours]
    return "".join("M" + "L".join(f"{x} {y}" for x, y in line.tolist()) + "Z" for line in lines if len(line) > 2)
