"""Training windows: a random place, size, turn and colour of a picture, with its boxes; four of them make a mosaic.

Knows pixel arrays and boxes. Randomness comes from (seed, step, place) alone, so that a resumed training sees the same pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from pathasst.core.errors import BadDataset
from pathasst.nn.crops import centred
from pathasst.nn.detector.data import Labelled
from pathasst.nn.detector.settings import DetectorTraining

VISIBLE = 0.4
"""A box stays when at least this share of it lies in the window; it is cut to the window."""
GREY = 114
"""Beyond a picture's edge, as YOLO pads."""
Sample = tuple[np.ndarray, np.ndarray, np.ndarray]


def base_scale(shape: tuple[int, ...], settings: DetectorTraining) -> float:
    """The factor at which detection shows a picture of this shape to the network."""
    model = settings.model
    return model.scale or model.size / max(shape[:2])


def window(picture: Labelled, width: int, height: int, settings: DetectorTraining, rng: np.random.Generator) -> Sample:
    """A random window: pixels height×width×3 uint8, boxes n×4 float32, labels n int64."""
    image = picture.pixels()
    low, high = (base_scale(image.shape, settings) * z for z in settings.zoom)
    if settings.model.scale:  # a field fills its window; a figure is shown whole, with its margins
        low = max(low, max(width, height) / min(image.shape[:2]))
    zoom = float(np.exp(rng.uniform(np.log(low), np.log(max(low, high)))))
    stretch = np.exp(rng.uniform(-settings.stretch, settings.stretch) / 2)
    sx, sy = zoom * stretch, zoom / stretch
    w, h = image.shape[1] * sx, image.shape[0] * sy
    if settings.turns and rng.random() < 0.5:
        turn, w, h = np.array([[0, sy, 0], [sx, 0, 0]]), h, w  # transposed
    else:
        turn = np.array([[sx, 0, 0], [0, sy, 0]], float)
    if settings.flips or settings.turns:
        for axis, length in ((0, w), (1, h)):
            if rng.random() < 0.5 and (axis == 0 or settings.turns):
                turn[axis] *= -1
                turn[axis, 2] += length
    turn[:, 2] -= [_place(w, width, rng), _place(h, height, rng)]
    return _warp(image, picture.boxes, picture.labels, turn, width, height)


def _place(length: float, view: int, rng: np.random.Generator) -> float:
    """Where the window starts; a picture smaller than the window lies anywhere within it."""
    return float(rng.uniform(min(0.0, length - view), max(0.0, length - view)))


def _warp(image: np.ndarray, boxes: np.ndarray, labels: np.ndarray, matrix: np.ndarray, width: int, height: int) -> Sample:
    shifted = centred(matrix)
    shrink = float(np.abs(matrix[:, :2]).max())
    if shrink < 0.7:  # bilinear reading alone would skip pixels
        image = cv2.GaussianBlur(image, (0, 0), 0.35 / shrink)
    grey = (GREY, GREY, GREY)
    pixels = cv2.warpAffine(image, shifted, (width, height), flags=cv2.INTER_LINEAR, borderValue=grey)
    first, second = (boxes[:, i : i + 2] @ matrix[:, :2].T + matrix[:, 2] for i in (0, 2))
    warped = np.concatenate([np.minimum(first, second), np.maximum(first, second)], 1)
    cut = np.clip(warped, 0, [width, height, width, height])
    large = area(cut) >= np.maximum(VISIBLE * area(warped), 9)
    return np.asarray(pixels), cut[large].astype(np.float32), labels[large]


def area(boxes: np.ndarray) -> np.ndarray:
    """Areas of n×4 boxes; 0 for inverted ones."""
    return np.asarray(np.prod(np.clip(boxes[:, 2:] - boxes[:, :2], 0, None), -1))


def colour(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Random white point, contrast, saturation, gamma, blur, noise and JPEG damage on H×W×3 uint8."""
    x: np.ndarray = image.astype(np.float32)
    grey = x.mean(-1, keepdims=True)
    x = grey + (x - grey) * (1 + strength * rng.uniform(-0.4, 0.4))
    gains = (1 + strength * rng.uniform(-0.08, 0.08, 3)) * (1 + strength * rng.uniform(-0.15, 0.15))
    x = (x - 128) * (1 + strength * rng.uniform(-0.25, 0.25)) + 128
    x = x * gains.astype(np.float32) + strength * rng.uniform(-12, 12)
    if rng.random() < 0.2 * strength:
        x += rng.normal(0, rng.uniform(1, 8), x.shape).astype(np.float32)
    x = np.clip(x, 0, 255).astype(np.uint8)
    if rng.random() < 0.25 * strength:
        x = cv2.GaussianBlur(x, (0, 0), float(rng.uniform(0.3, 1.4)))
    if rng.random() < 0.2 * strength:
        x = np.asarray(
            cv2.imdecode(cv2.imencode(".jpg", x, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(35, 90))])[1], cv2.IMREAD_COLOR)
        )
    return np.asarray(x)


def repeats(labels: Sequence[np.ndarray], rare: float) -> np.ndarray:
    """How often each picture comes up in an epoch, int64 [n]. `labels`: the class ids on each.

    √(rare / share of pictures with the class) of its rarest class, at least once (repeat factor, Gupta et al. 2019, LVIS).
    """
    kinds = [np.unique(some) for some in labels]
    share = np.bincount(np.concatenate([*kinds, np.empty(0, np.int64)])) / len(labels)
    return np.array([max([1, *np.round(np.sqrt(rare / share[some]))]) for some in kinds], np.int64)


class Windows:
    """Endless training batches of random windows."""

    def __init__(self, pictures: Sequence[Labelled], settings: DetectorTraining) -> None:
        if not pictures:
            raise BadDataset("no picture is left for training; check the splits of the recipe.")
        self.pictures, self.settings = pictures, settings
        self.epoch = np.repeat(np.arange(len(pictures)), repeats([p.labels for p in pictures], settings.rare))

    def batch(self, step: int, places: range) -> tuple[Any, list[Any], list[Any]]:
        """The windows at some places of a step: pixels b×3×S×S uint8 tensor, boxes and labels of each."""
        import torch

        s = self.settings
        samples = [self._one(np.random.default_rng((s.seed, step, place)), step * s.batch + place) for place in places]
        pixels = np.stack([m[0].transpose(2, 0, 1) for m in samples])
        return torch.from_numpy(pixels), [torch.from_numpy(m[1]) for m in samples], [torch.from_numpy(m[2]) for m in samples]

    def _one(self, rng: np.random.Generator, number: int) -> Sample:
        """Each epoch has its own order (rare classes' pictures come more often); a mosaic's other parts are drawn freely."""
        s, n = self.settings, len(self.epoch)
        own = int(np.random.default_rng((s.seed, 1, number // n)).permutation(self.epoch)[number % n])
        if rng.random() >= s.mosaic:
            pixels, boxes, labels = window(self.pictures[own], s.crop, s.crop, s, rng)
        else:
            pixels, boxes, labels = self._mosaic([own, *rng.choice(self.epoch, 3)], rng)
        return (colour(pixels, s.colour, rng) if s.colour else pixels), boxes, labels

    def _mosaic(self, numbers: Sequence[int], rng: np.random.Generator) -> Sample:
        side = self.settings.crop
        x, y = (int(v) for v in rng.uniform(0.3, 0.7, 2) * side)
        pixels = np.empty((side, side, 3), np.uint8)
        boxes, labels = [], []
        for index, (x0, x1, y0, y1) in zip(
            numbers, ((0, x, 0, y), (x, side, 0, y), (0, x, y, side), (x, side, y, side)), strict=True
        ):
            part, where, kinds = window(self.pictures[int(index)], x1 - x0, y1 - y0, self.settings, rng)
            pixels[y0:y1, x0:x1] = part
            boxes.append(where + np.array([x0, y0, x0, y0], np.float32))
            labels.append(kinds)
        return pixels, np.concatenate(boxes), np.concatenate(labels)
