"""Where on a slide the tissue is: a mask on a low level, and its outlines. Knows colours and shapes, no tool.

Tissue is what is coloured or dense beside the glass, and what is so only on average but has texture: fat, loose stroma. Left out
are blank glass, black padding, pen marks (pure hues that no stain has, and black ink), thin long lines such as the edge of a
coverslip, and specks. `benchmarks/slides_tissue.py` measures it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from pathasst.imaging.outlines import outlines_of
from pathasst.imaging.pictures import spread
from pathasst.imaging.slides.slide import Slide

if TYPE_CHECKING:
    from shapely.geometry import MultiPolygon
    from shapely.geometry.base import BaseGeometry

UM_PER_PX = 8.0
"""Scale that the mask is made at."""
LONGEST = 4096
"""px of the mask's longer side at most; 2,048 where the scale is unknown."""
SPECK = 0.005
"""mm² below which a patch of tissue is taken for dust."""
CELL = 100.0
"""µm: a gap that narrow is a fat cell and no glass."""
PALE_SIDE = 300.0
"""µm: side of the squares over which pale tissue is averaged, a few fat cells."""
PALE, TEXTURE = 0.012, 1.0
"""What pale tissue has on average: signal (see `tissue_mask`), and grey levels of the deviation from its smoothed picture."""


@dataclass(frozen=True, slots=True)
class Tissue:
    """`mask` H×W bool; `downsample`: px of the slide's finest level per px of the mask, x and y.

    `left_out`: share of the slide that was taken for something else, by what it was taken for.
    """

    mask: np.ndarray
    downsample: tuple[float, float]
    left_out: dict[str, float] = field(default_factory=dict)

    @property
    def share(self) -> float:
        """Of the slide, 0–1."""
        return float(self.mask.mean())

    def area_mm2(self, um_per_px: float | None) -> float | None:
        """`um_per_px`: of the slide's finest level."""
        if um_per_px is None:
            return None
        return float(self.mask.sum()) * self.downsample[0] * self.downsample[1] * um_per_px**2 * 1e-6

    def outlines(self) -> MultiPolygon:
        """The mask's outlines with their holes, in px of the slide's finest level."""
        from shapely.affinity import scale

        return scale(outlines_of(self.mask), *self.downsample, origin=(0, 0))  # type: ignore[return-value]

    def within(self, include: BaseGeometry | None = None, exclude: BaseGeometry | None = None) -> Tissue:
        """The tissue inside of `include` and outside of `exclude`, in px of the slide's finest level."""
        mask = self.mask
        for area, inside in ((include, True), (exclude, False)):
            if area is not None:
                mask = mask & (self._painted(area) == inside)
        return Tissue(mask, self.downsample, self.left_out)

    def shares(self, boxes: np.ndarray) -> np.ndarray:
        """How much of each box x1 y1 x2 y2 (n×4, px of the finest level) is tissue, 0–1; float [n]."""
        height, width = self.mask.shape
        sums = np.zeros((height + 1, width + 1))
        sums[1:, 1:] = self.mask.cumsum(0).cumsum(1)
        edges = boxes / np.tile(self.downsample, 2)
        low, high = np.floor(edges[:, :2]).astype(int), np.ceil(edges[:, 2:]).astype(int)
        low, high = np.clip(low, 0, [width - 1, height - 1]), np.clip(high, 1, [width, height])
        high = np.maximum(high, low + 1)
        (x1, y1), (x2, y2) = low.T, high.T
        return (sums[y2, x2] - sums[y1, x2] - sums[y2, x1] + sums[y1, x1]) / ((x2 - x1) * (y2 - y1))  # type: ignore[no-any-return]

    def _painted(self, area: BaseGeometry) -> np.ndarray:
        import cv2
        from shapely.affinity import scale

        canvas = np.zeros(self.mask.shape, np.uint8)
        small = scale(area, 1 / self.downsample[0], 1 / self.downsample[1], origin=(0, 0))
        for polygon in getattr(small, "geoms", [small]):
            rings = [
                np.round(np.array(ring.coords)[:, :2] - 0.5).astype(np.int32) for ring in (polygon.exterior, *polygon.interiors)
            ]
            cv2.fillPoly(canvas, rings, 1)
        return canvas > 0


def find_tissue(slide: Slide, um_per_px: float = UM_PER_PX) -> Tissue:
    """The tissue of a slide, from a picture of it at `um_per_px` (coarser for a very large one). Raises BadInput."""
    longest = max(slide.size)
    shrink = max(um_per_px / slide.um_per_px if slide.um_per_px else longest / 2048, longest / LONGEST, 1.0)
    image = slide.read(downsample=shrink).image
    downsample = slide.size[0] / image.shape[1], slide.size[1] / image.shape[0]
    side = None if slide.um_per_px is None else slide.um_per_px * downsample[0]
    mask, left_out = tissue_mask(image, side)
    return Tissue(mask, downsample, left_out)


def tissue_mask(image: np.ndarray, um_per_px: float | None = None) -> tuple[np.ndarray, dict[str, float]]:
    """Tissue in an overview H×W×3 uint8 RGB: H×W bool, and the share of the picture that was left out, by reason."""
    import cv2

    padding = _padding(image)
    smooth = cv2.GaussianBlur(image, (0, 0), 1.0)
    white = _glass(image, padding)
    density = np.log10((white + 1) / (smooth.astype(np.float32) + 1)).clip(-0.2, 2)
    # Chroma is what separates pale tissue from shadow and dirty glass, density what separates grey cytology from both.
    chroma, dense = density.max(-1) - density.min(-1), density.mean(-1)
    signal = chroma + 0.5 * dense.clip(0)
    signal[padding] = 0
    mask = (signal > _threshold(signal[~padding])) & ~padding
    pen = _pen(smooth, density, mask) & ~padding
    mask |= _pale(image, smooth, density, mask | pen | padding, um_per_px)
    mask &= ~cv2.dilate(pen.astype(np.uint8), np.ones((7, 7), np.uint8)).astype(bool)
    strips = _edge_strips(mask)
    lines, mask = _without_lines(mask & ~strips, chroma)
    lines |= strips
    mask = _tidy(mask, um_per_px)
    share = {"black padding": float(padding.mean()), "pen": float(pen.mean()), "lines": float(lines.mean())}
    return mask, {reason: round(value, 4) for reason, value in share.items() if value > 0}


def _padding(image: np.ndarray) -> np.ndarray:
    """Black or white-less parts that no scanner saw: nearly black, flat, and touching the picture's edge."""
    import cv2

    black = (image.max(-1) < 12).astype(np.uint8)
    if not black.any():
        return black.astype(bool)
    labels = cv2.connectedComponents(black)[1]
    edge = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    return np.asarray(np.isin(labels, edge[edge > 0]))


def _glass(image: np.ndarray, padding: np.ndarray) -> np.ndarray:
    """The colour of blank glass: of the bright, colourless pixels the brightest common one; white without any."""
    pixels = image[~padding]
    pixels = pixels[:: max(len(pixels) // 200_000, 1)]
    grey = pixels.min(-1) if len(pixels) else np.empty(0, np.uint8)
    bright = pixels[(grey > 170) & (spread(pixels[None])[0] < 30)] if len(pixels) else pixels
    if len(bright) < 0.01 * max(len(pixels), 1):
        return np.full(3, 245, np.float32)
    level = np.convolve(np.bincount(bright.min(-1), minlength=256).astype(float), np.ones(5), "same")
    common = np.flatnonzero((level >= 0.15 * level.max()) & (level >= np.roll(level, 1)) & (level >= np.roll(level, -1)))
    peak = int(common.max())  # pale tissue can be commoner than glass
    near = bright[np.abs(bright.min(-1).astype(int) - peak) <= 4]
    return np.median(near, axis=0).astype(np.float32)  # type: ignore[no-any-return]


def _threshold(signal: np.ndarray) -> float:
    """Otsu's threshold, held between what noise of glass reaches and what pale tissue has."""
    from skimage.filters import threshold_otsu

    if not signal.size or float(np.ptp(signal)) < 1e-6:
        return 0.06
    return float(np.clip(0.6 * threshold_otsu(signal.clip(0, 0.6)), 0.03, 0.04))


def _pale(image: np.ndarray, smooth: np.ndarray, density: np.ndarray, others: np.ndarray, um_per_px: float | None) -> np.ndarray:
    """Fat and loose stroma: no darker than noise px by px, but coloured on average, and textured, which stain on glass is not.

    The averages leave out `others` and what lies near them: their blurred edges colour the glass beside them.
    """
    import cv2

    side = max(int(PALE_SIDE / um_per_px if um_per_px else max(image.shape) / 56), 11) | 1
    free = 1 - cv2.dilate(others.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(np.float32)

    def averaged(values: np.ndarray) -> np.ndarray:
        return cv2.boxFilter(values * free, -1, (side, side), borderType=cv2.BORDER_REFLECT) / np.maximum(share, 1e-3)

    share = cv2.boxFilter(free, -1, (side, side), borderType=cv2.BORDER_REFLECT)
    colours = np.stack([averaged(density[..., c]) for c in range(3)], -1)
    signal = colours.max(-1) - colours.min(-1) + 0.5 * colours.mean(-1).clip(0)
    texture = np.sqrt(averaged((image[..., 1].astype(np.float32) - smooth[..., 1]) ** 2))
    least = max(TEXTURE, 2 * float(np.percentile(texture[free > 0], 25))) if free.any() else TEXTURE
    return np.asarray((signal > PALE) & (texture > least) & (share > 0.02) & ~others)


def _pen(image: np.ndarray, density: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Ink on the glass: saturated green, blue, cyan or red, and black.

    A hue that a third of the tissue has is the stain (Giemsa is as blue as ink), and what lies within tissue is tissue (blood).
    """
    red, green, blue = (image[..., c].astype(np.int16) for c in range(3))
    hues = (
        ((green - red > 25) & (green - blue > -15)) | ((green - red > 35) & (blue - red > 35)),
        (blue - red > 70) & (blue - green > 45) & (green - red > 0),
        (red - green > 110) & (red - blue > 90),
    )
    # Ink takes away all colours alike; no stain that dense is that grey.
    black = (density.mean(-1) > 0.5) & (density.max(-1) - density.min(-1) < 0.15 * density.mean(-1))
    coloured = max(int((mask & ~black).sum()), 1)
    pen = black.copy()
    for hue in hues:
        if (hue & mask).sum() < 0.33 * coloured:
            pen |= hue
    return pen & ~_surrounded(pen, mask & ~pen)


def _surrounded(parts: np.ndarray, tissue: np.ndarray) -> np.ndarray:
    """The connected parts that have tissue around more than half of them; their own blurred rim says nothing."""
    import cv2

    count, labels = cv2.connectedComponents(parts.astype(np.uint8), connectivity=8)
    dilated = cv2.dilate(labels.astype(np.float32), np.ones((11, 11), np.uint8)).astype(int)
    rim = (dilated > 0) & ~cv2.dilate(parts.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
    around = np.bincount(dilated[rim], minlength=count)
    within = np.bincount(dilated[rim & tissue], minlength=count)
    inside = within > 0.5 * np.maximum(around, 1)
    inside[0] = False
    return np.asarray(inside[labels])


def _edge_strips(mask: np.ndarray) -> np.ndarray:
    """Up to a fiftieth of the picture along an edge that is full while what lies behind is not: the scan's own border."""
    strips = np.zeros_like(mask)
    for turned, target in ((mask, strips), (mask.T, strips.T)):
        depth = max(turned.shape[0] // 50, 2)
        for side in (1, -1):
            shares = turned[::side].mean(1)
            behind = shares[2 * depth : 3 * depth].mean() if len(shares) > 3 * depth else 1.0
            full = shares[:depth] > max(0.3, behind + 0.3)
            if full.any():
                target[::side][: int(np.flatnonzero(full).max()) + 2] = True
    return strips & mask


def _without_lines(mask: np.ndarray, chroma: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Thin, long parts along the picture's edge or nearly without colour (coverslips, scratches), and the mask without them."""
    import cv2

    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    lines = np.zeros_like(mask)
    longest = max(mask.shape)
    for i in range(1, count):
        x, y, width, height, area = (int(v) for v in stats[i])
        long, thick = max(width, height), area / max(width, height)
        at_edge = min(width, height) < 0.02 * longest and (
            min(x, y) <= 1 or x + width >= mask.shape[1] - 1 or y + height >= mask.shape[0] - 1
        )
        if long > (0.04 if at_edge else 0.15) * longest and thick < 0.012 * longest and long > 4 * thick:
            part = labels == i
            if at_edge or float(np.median(chroma[part])) < 0.08:
                lines |= part
    return lines, mask & ~lines


def _tidy(mask: np.ndarray, um_per_px: float | None) -> np.ndarray:
    """Gaps closed, single px, specks and small holes away."""
    import cv2
    from skimage.morphology import remove_small_holes, remove_small_objects

    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))
    reach = max(round(CELL / 2 / um_per_px if um_per_px else max(mask.shape) / 340), 2)
    closed = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_CLOSE, kernel, iterations=reach)
    opened = cv2.morphologyEx(closed, cv2.MORPH_OPEN, kernel) > 0
    speck = max(round(SPECK * 1e6 / um_per_px**2), 4) if um_per_px else max(mask.size // 50_000, 4)
    clean = remove_small_objects(opened, max_size=speck)
    return np.asarray(remove_small_holes(clean, max_size=speck))
