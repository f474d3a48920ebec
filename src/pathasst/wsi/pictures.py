"""Pictures of a run: the density map, and the slide with tissue, density and hot spots. Knows counts and places, no tool."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pathasst.core.files import write_atomic
from pathasst.imaging.pictures import encode_jpeg, encode_png
from pathasst.imaging.slides import Slide
from pathasst.imaging.slides.tissue import Tissue
from pathasst.wsi.grids import CountGrid
from pathasst.wsi.scores import POSITIVE

DENSITY, OVERVIEW = "density.png", "overview.jpg"
SIDE = 1600


def draw_pictures(
    slide: Slide, tool: str, out: Path, grid: CountGrid, tissue: Tissue | None, spots: Sequence[Mapping[str, Any]]
) -> None:
    """`density.png` and `overview.jpg`."""
    import cv2

    image = np.ascontiguousarray(slide.overview(SIDE).image)
    factor = slide.size[0] / image.shape[1]
    values = density(grid, POSITIVE.get(tool))
    heat = colours(cv2.resize(values, (image.shape[1], image.shape[0]), interpolation=cv2.INTER_LINEAR))
    write_atomic(out / DENSITY, encode_png(heat[..., :3]))
    alpha = heat[..., 3:].astype(np.float32) / 255 * 0.55
    image = np.ascontiguousarray((image * (1 - alpha) + heat[..., :3] * alpha).astype(np.uint8))
    if tissue is not None:
        for polygon in tissue.outlines().geoms:
            ring = np.round(np.array(polygon.exterior.coords) / factor).astype(np.int32)
            cv2.polylines(image, [ring], True, (0, 120, 60), 1, cv2.LINE_AA)
    for number, spot in enumerate(spots, 1):
        middle = round(spot["x"] / factor), round(spot["y"] / factor)
        radius = max(round(spot["radius_px"] / factor), 4)
        cv2.circle(image, middle, radius, (10, 10, 10), 2, cv2.LINE_AA)
        cv2.putText(
            image, str(number), (middle[0] + radius + 3, middle[1]), cv2.FONT_HERSHEY_SIMPLEX, 0.7, (10, 10, 10), 2, cv2.LINE_AA
        )
    write_atomic(out / OVERVIEW, encode_jpeg(image, 88))


def density(grid: CountGrid, labels: Sequence[str] | None) -> np.ndarray:
    """H×W float32 0–1: objects of these labels a bin, smoothed; 1 is the 99.5th percentile of what is not empty."""
    import cv2

    smooth = cv2.GaussianBlur(grid.total(labels).astype(np.float32), (0, 0), 1.5)
    there = smooth[smooth > 0.05]
    return np.clip(smooth / max(float(np.percentile(there, 99.5)), 1e-6), 0, 1) if there.size else np.zeros_like(smooth)


def colours(values: np.ndarray) -> np.ndarray:
    """H×W 0–1 → H×W×4 uint8: matplotlib's `inferno`, transparent where nothing is."""
    import cv2

    table = cv2.applyColorMap(np.clip(values * 255, 0, 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    return np.dstack([table, np.clip(values * 4, 0, 1) * 255]).astype(np.uint8)
