"""Labelled fields at the network's scale, their split by patient, and random crops for training. Knows labels, not the network.

Every random choice follows from (seed, step, place in the batch), so that a resumed training sees what an unbroken one would.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pathasst.core.errors import BadDataset
from pathasst.imaging.annotations import group_of
from pathasst.nn.crops import centred, photograph, random_matrix
from pathasst.nn.nuclei.maps import targets
from pathasst.nn.nuclei.settings import NucleiData, NucleiSettings, NucleiTraining
from pathasst.nn.sam.masks import read_outlined, usable

_VECTORS = np.array([[0.650, 0.704, 0.286], [0.072, 0.990, 0.105], [0.755, 0.130, 0.643]], np.float32)
HE = _VECTORS / np.linalg.norm(_VECTORS, axis=1, keepdims=True)
"""Rows: haematoxylin, eosin (Ruifrok & Johnston 2001), and a direction that takes what is neither."""
UNMIX_HE = np.linalg.inv(HE).astype(np.float32)


@dataclass(frozen=True, slots=True)
class NucleiField:
    """One labelled picture as it was given. `image` H×W×3 uint8 RGB, `labels` H×W int32, nuclei from 1; `factor` brings it to the
    network's scale."""

    name: str
    source: str
    group: str
    image: np.ndarray
    labels: np.ndarray
    factor: float
    weight: float = 1.0

    def resized(self) -> NucleiField:
        """At the network's scale."""
        if self.factor == 1:
            return self
        height, width = self.labels.shape
        size = max(round(width * self.factor), 1), max(round(height * self.factor), 1)
        image = cv2.resize(self.image, size, interpolation=cv2.INTER_AREA if self.factor < 1 else cv2.INTER_CUBIC)
        # OpenCV resizes no int32; float32 holds every number of a nucleus.
        labels = cv2.resize(self.labels.astype(np.float32), size, interpolation=cv2.INTER_NEAREST_EXACT).astype(np.int32)
        return NucleiField(self.name, self.source, self.group, np.asarray(image), labels, 1.0, self.weight)


def read_fields(data: NucleiData, model: NucleiSettings) -> list[NucleiField]:
    """All usable fields of one source. Raises BadDataset for a source that is none."""
    pictures, reasons = usable(read_outlined(Path(data.source)))
    fields = []
    for picture in pictures:
        image, objects = picture.read()
        labels = np.zeros(image.shape[:2], np.int32)
        for number, one in enumerate(sorted(objects, key=lambda o: -int(o.pixels.sum())), start=1):  # small over large
            x1, y1, x2, y2 = one.box
            labels[y1:y2, x1:x2][one.pixels] = number
        um_per_px = data.um_per_px or float(np.sqrt(model.nucleus / median_area(labels)))
        group = group_of(Path(picture.name).stem, data.group)
        fields.append(
            NucleiField(picture.name, Path(data.source).stem, group, image, labels, um_per_px / model.um_per_px, data.weight)
        )
    if reasons:
        import warnings

        warnings.warn(f"{data.source}: {len(reasons)} pictures are left out; the first: {reasons[0]}", stacklevel=2)
    return fields


def median_area(labels: np.ndarray) -> float:
    """Median area in px of the nuclei that do not touch the picture's edge; of all where each does."""
    areas = np.bincount(labels.ravel())
    areas[0] = 0
    cut = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    free = areas.copy()
    free[cut] = 0
    return float(np.median(free[free > 0] if free.any() else areas[areas > 0]))


def split_fields(fields: Sequence[NucleiField], data: NucleiData, seed: int) -> dict[str, list[NucleiField]]:
    """Fields by split; whole groups go to one, drawn by the seed."""
    groups = sorted({f.group for f in fields})
    order = np.random.default_rng(seed).permutation(len(groups))
    tests, vals = round(data.test * len(groups)), round(data.val * len(groups))
    split_of = {groups[i]: "test" if n < tests else "val" if n < tests + vals else "train" for n, i in enumerate(order)}
    splits: dict[str, list[NucleiField]] = {"train": [], "val": [], "test": []}
    for field in fields:
        splits[split_of[field.group]].append(field)
    return splits


def recolour(image: np.ndarray, rng: np.random.Generator, hue: float, pale: float) -> np.ndarray:
    """Another laboratory's H&E: strength and colour of both stains, brightness, blur and JPEG noise on H×W×3 uint8."""
    stains = -np.log((image.astype(np.float32) + 1) / 256) @ UNMIX_HE
    strength = rng.uniform(0.65, 1.4, 3).astype(np.float32)
    if rng.random() < pale:
        strength[1] *= rng.uniform(0, 0.4)
    stains = stains * strength + rng.uniform(-0.05, 0.05, 3).astype(np.float32)
    vectors = HE + rng.normal(0, hue, HE.shape).astype(np.float32)
    image = 256 * np.exp(-(stains @ vectors)) - 1
    return photograph(image, rng, contrast=0.2, brightness=20, blurred=0.35, blur=1.2)


class NucleiCrops:
    """Endless batches of random crops."""

    def __init__(self, fields: Sequence[NucleiField], settings: NucleiTraining) -> None:
        if not fields:
            raise BadDataset("no picture is left for training; check the splits of the recipe")
        self.fields, self.settings = [f.resized() for f in fields], settings
        # A source counts by its weight, whatever its number of pictures; in it, pictures count by their size.
        sizes = np.array([f.labels.size for f in self.fields], np.float64)
        totals = {s: sum(n for f, n in zip(self.fields, sizes, strict=True) if f.source == s) for s in {f.source for f in fields}}
        shares = np.array([n * f.weight / totals[f.source] for f, n in zip(self.fields, sizes, strict=True)])
        self.shares = shares / shares.sum()

    def batch(self, step: int, places: range) -> tuple[Any, Any]:
        """The crops at some places of a step: images N×3×S×S uint8 and target maps N×4×S×S float32."""
        import torch

        settings, images, maps = self.settings, [], []
        for place in places:
            rng = np.random.default_rng((settings.seed, step, place))
            field = self.fields[int(rng.choice(len(self.fields), p=self.shares))]
            image, labels = warp(field, random_matrix(field.image.shape, settings.crop, settings.zoom, rng), settings.crop)
            image = recolour(image, rng, settings.hue, settings.pale)
            images.append(torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))))
            maps.append(torch.from_numpy(targets(labels)))
        return torch.stack(images), torch.stack(maps)


def warp(field: NucleiField, matrix: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """A `size`×`size` crop of picture and labels through the 2×3 affine `matrix` (px edges of the field → of the crop)."""
    shifted = centred(matrix)
    image = cv2.warpAffine(field.image, shifted, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    labels = cv2.warpAffine(field.labels.astype(np.float32), shifted, (size, size), flags=cv2.INTER_NEAREST)
    return image, labels.astype(np.int32)
