"""Labelled fields: the points CSV, the split by group, and random crops for training.

Knows pictures and points, not the network. The CSV has the columns image, x, y, label (px, first pixel's centre at 0.5); image
paths are relative to the CSV. A picture without cells appears with an empty label. Every random choice follows from (seed,
step, place in the batch), so that a resumed training sees what an unbroken one would.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pathasst.core.errors import BadDataset, BadInput
from pathasst.imaging.annotation_files import SUFFIXES, picture_path, read_annotations
from pathasst.imaging.annotations import group_of, read_marks, warn_left_out
from pathasst.imaging.label_coordinates import on_picture
from pathasst.imaging.stains import STAINS, UNMIX
from pathasst.nn.crops import centred, photograph, random_matrix
from pathasst.nn.p2pnet.settings import PointData


@dataclass(frozen=True, slots=True)
class LabelledField:
    """One labelled picture. `image` H×W×3 uint8 RGB, `points` M×2 float32 px, `labels` M int64."""

    name: str
    group: str
    image: np.ndarray
    points: np.ndarray
    labels: np.ndarray
    um_per_px: float | None = None  # of the file; None where it states none


def read_fields(data: PointData, classes: Sequence[str]) -> list[LabelledField]:
    """All fields of one source, resized by its scale. Pictures that cannot be used are left out, with a warning.

    Raises BadDataset for a CSV that `read_marks` refuses, and when no picture is left.
    """
    from pathasst.imaging.pictures import read, read_header

    table = Path(data.points)
    fields = []
    unusable: list[str] = []
    for name, (cells, drawn_on) in _cells(table).items():
        try:
            path = picture_path(table.parent, name)
            picture = read(path)
            places = on_picture([place for place, _ in cells], drawn_on, read_header(path)) if drawn_on else [c[0] for c in cells]
        except BadInput as error:
            unusable.append(str(error))
            continue
        if places is None:
            unusable.append(f"{name} is of another size than its labels say.")
            continue
        image = picture.pixels
        if data.scale != 1:
            size = round(image.shape[1] * data.scale), round(image.shape[0] * data.scale)
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA if data.scale < 1 else cv2.INTER_CUBIC)
        own = [data.classes.get(label, label) for _, label in cells]
        mapped = [(*place, classes.index(label)) for place, label in zip(places, own, strict=True) if label in classes]
        points = np.array([c[:2] for c in mapped], np.float32).reshape(-1, 2) * data.scale
        labels = np.array([c[2] for c in mapped], np.int64)
        name = path.name if Path(name).is_absolute() else name
        fields.append(LabelledField(name, group_of(Path(name).stem, data.group), image, points, labels, picture.um_per_px))
    if unusable and not fields:
        raise BadDataset(f"{table.name}: none of its {len(unusable)} pictures can be used: {unusable[0]}")
    if unusable:
        warnings.warn(f"{table.name}: {len(unusable)} pictures are left out: {' '.join(unusable[:3])}", stacklevel=2)
    return fields


Cells = list[tuple[tuple[float, ...], str]]


def _cells(table: Path) -> dict[str, tuple[Cells, tuple[float, float] | None]]:
    """Picture → its points (of a CSV, or the centres of what others drew), and the size of the picture they were drawn on."""
    annotated = read_annotations(table) if table.suffix.lower() in SUFFIXES or table.is_dir() else None
    if annotated is None:
        return {name: (cells, None) for name, (_, cells) in read_marks(table, ("x", "y")).items()}
    warn_left_out(table, annotated.left_out)
    return {
        name: ([(s.centre, s.label) for s in shapes], annotated.sizes.get(name)) for name, shapes in annotated.pictures.items()
    }


def split_fields(fields: Sequence[LabelledField], data: PointData) -> dict[str, list[LabelledField]]:
    """Fields by split. Raises BadDataset when a named group is not there, since a typing error would leak test into training."""
    groups = {f.group for f in fields}
    if missing := (set(data.val) | set(data.test)) - groups:
        raise BadDataset(f"{data.points}: no picture is of the groups {sorted(missing)}")
    splits: dict[str, list[LabelledField]] = {"train": [], "val": [], "test": []}
    for field in fields:
        name = "test" if field.group in data.test else "val" if field.group in data.val else "train"
        splits[name].append(field)
    return splits


def warp(field: LabelledField, matrix: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A `size`×`size` crop through the 2×3 affine `matrix` (px of the field → px of the crop), with its points and labels.

    OpenCV puts pixel centres at whole numbers, we at +0.5: the matrix is shifted for it, the points are not.
    """
    shifted = centred(matrix)
    image = cv2.warpAffine(field.image, shifted, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    points = field.points @ matrix[:, :2].T.astype(np.float32) + matrix[:, 2].astype(np.float32)
    inside = ((points > 0) & (points < size)).all(1)
    return image, points[inside], field.labels[inside]


def jitter(image: np.ndarray, rng: np.random.Generator, hue: float = 0.0) -> np.ndarray:
    """Random stain strength, stain colour (by `hue`), brightness, blur and JPEG noise on H×W×3 uint8."""
    density = -np.log((image.astype(np.float32) + 1) / 256)
    stains = density @ UNMIX
    # Both stains stay within a third of their strength: a pale positive must not become a negative.
    stains *= rng.uniform(0.7, 1.35, 3).astype(np.float32)
    stains += rng.uniform(-0.06, 0.06, 3).astype(np.float32)
    vectors = STAINS + rng.normal(0, hue, STAINS.shape).astype(np.float32) if hue else STAINS
    image = 256 * np.exp(-(stains @ vectors)) - 1
    return photograph(image, rng, contrast=0.15, brightness=15, blurred=0.4, blur=1.5)


class Crops:
    """Endless batches of random crops."""

    def __init__(self, fields: Sequence[LabelledField], weights: Sequence[float], settings: Any) -> None:
        if not fields:
            raise BadDataset("no picture is left for training; check the splits of the recipe")
        self.fields, self.settings = fields, settings
        self.weights = np.asarray(weights, np.float64) / np.sum(weights)

    def batch(self, step: int, places: range) -> tuple[Any, list[Any], list[Any]]:
        """The crops at some places of a step: images N×3×S×S uint8 tensor, points M×2 px and labels M of each."""
        import torch

        images, points, labels = [], [], []
        for place in places:
            rng = np.random.default_rng((self.settings.seed, step, place))
            field = self.fields[int(rng.choice(len(self.fields), p=self.weights))]
            size = self.settings.crop
            image, where, what = warp(field, random_matrix(field.image.shape, size, self.settings.zoom, rng), size)
            images.append(torch.from_numpy(np.ascontiguousarray(jitter(image, rng, self.settings.hue).transpose(2, 0, 1))))
            points.append(torch.from_numpy(where))
            labels.append(torch.from_numpy(what))
        return torch.stack(images), points, labels
