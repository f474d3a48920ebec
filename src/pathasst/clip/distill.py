"""Distillation: EfficientNet-Lite0, which has seen ImageNet, teaches the ViT what it sees in crops of our pictures.

A ViT from scratch learns little from a few thousand pictures. At 224 px the teacher's stride-32 map is 7 × 7, the 49 patch
tokens of a patch-32 ViT: every crop gives 49 targets and one for the pooled picture. The teacher sees some crops of every picture
once (`TeacherFeatures`); the student sees them turned, mirrored and in other stain, and predicts the teacher's features, turned
likewise. Targets are principal components of the teacher's features, half whitened, scaled to variance 1: 1 − loss is the
explained variance.
Knows pictures and the teacher; nothing of captions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pathasst.clip.augment import Box, cut, random_box, turn
from pathasst.clip.data import TrainingImage
from pathasst.clip.settings import DistillSettings
from pathasst.core.errors import BadSettings
from pathasst.core.hardware import has_fast_bfloat16

if TYPE_CHECKING:
    from torch import nn

FILE = "teacher.safetensors"
BATCH, FIRST = 32, 512  # views a teacher's batch; views from which the components are found
_TEACHER_STRIDE = 32


@dataclass(slots=True)
class TeacherFeatures:
    """The teacher's features of `views` crops of each picture."""

    boxes: np.ndarray  # float32 [pictures, views, 3]: left, top, edge as shares of the side
    patches: np.ndarray  # float16 [pictures · views, g, g, dims]
    pooled: np.ndarray  # float16 [pictures · views, dims]

    def box(self, picture: int, view: int) -> Box:
        left, top, edge = self.boxes[picture, view]
        return float(left), float(top), float(edge)

    def targets(self, crops: Sequence[tuple[int, int, int]], patch_indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(picture, view, pose) and patch indices int [n, k] → float32 targets of patches [n, k, dims] and pooled [n, dims]."""
        rows = [picture * self.boxes.shape[1] + view for picture, view, _ in crops]
        maps = np.stack([turn(self.patches[row], pose) for row, (_, _, pose) in zip(rows, crops, strict=True)])
        flat = maps.reshape(len(rows), -1, maps.shape[-1])
        return np.take_along_axis(flat, patch_indices[:, :, None], axis=1).astype(np.float32), self.pooled[rows].astype(
            np.float32
        )


def compute_teacher_features(
    images: Sequence[TrainingImage], distill: DistillSettings, size: int, grid: int, seed: int, path: Path
) -> TeacherFeatures:
    """Show the teacher `views` random crops of each picture (about 90 a second a core); kept in `path` for a resumed run.

    `size` is the student's input in px, `grid` its patches a side. Raises BadSettings when the student is finer than the teacher.
    """
    from safetensors.numpy import load_file, save_file

    if grid * _TEACHER_STRIDE > size:
        raise BadSettings(
            f"the teacher's map has {size // _TEACHER_STRIDE} places a side, the student {grid}; use a patch of 32 or more."
        )
    if path.is_file():
        stored = load_file(path)
        return TeacherFeatures(stored["boxes"], stored["patches"], stored["pooled"])
    rng = np.random.default_rng([seed, 0x7EAC])
    boxes = np.array([[random_box(rng, distill.smallest) for _ in range(distill.views)] for _ in images], np.float32)
    patches, pooled = _Teacher(size, grid, distill.dims, seed).look(images, boxes)
    teacher = TeacherFeatures(boxes, patches, pooled)
    temporary = path.with_name(f".{path.name}")
    save_file({"boxes": boxes, "patches": patches, "pooled": pooled}, temporary)
    temporary.replace(path)
    return teacher


class _Teacher:
    def __init__(self, size: int, grid: int, dims: int, seed: int) -> None:
        import torch

        from pathasst.nn.pretrained import efficientnet_lite0

        self.size, self.grid, self.dims, self.seed = size, grid, dims, seed
        self.net: Any = efficientnet_lite0().eval().to(memory_format=torch.channels_last)

    def look(self, images: Sequence[TrainingImage], boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """float16 [views, g, g, dims] and [views, dims], in the order of the pictures and of their views."""
        views = boxes.shape[1]
        count = len(images) * views
        # The components come from views drawn among all, since neighbours in the list are of one set.
        sample = np.random.default_rng([self.seed, 0x9CA]).permutation(count)[:FIRST]
        maps = np.concatenate([self._maps(images, boxes, sample[s : s + BATCH]) for s in range(0, len(sample), BATCH)])
        of_patches, of_pooled = (
            _Components(maps.reshape(-1, maps.shape[-1]), self.dims),
            _Components(maps.mean(axis=(1, 2)), self.dims),
        )
        patches = np.empty((count, self.grid, self.grid, of_patches.dims), np.float16)
        pooled = np.empty((count, of_pooled.dims), np.float16)
        for start in range(0, count, BATCH):
            rows = np.arange(start, min(start + BATCH, count))
            maps = self._maps(images, boxes, rows)
            patches[rows], pooled[rows] = of_patches(maps), of_pooled(maps.mean(axis=(1, 2)))
        return patches, pooled

    def _maps(self, images: Sequence[TrainingImage], boxes: np.ndarray, rows: np.ndarray) -> np.ndarray:
        import torch
        import torch.nn.functional as F

        from pathasst.nn.pretrained import MEAN, STD

        views = boxes.shape[1]
        crops = [cut(images[row // views].pixels, tuple(boxes[row // views, row % views]), self.size) for row in rows]
        pixels = (np.stack(crops).astype(np.float32) / 255 - np.asarray(MEAN, np.float32)) / np.asarray(STD, np.float32)
        inputs = torch.from_numpy(pixels).permute(0, 3, 1, 2)  # n, h, w, c in memory: channels last
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=has_fast_bfloat16()):
            maps = self.net.forward_features(inputs).float()
        if maps.shape[-1] != self.grid:
            maps = F.adaptive_avg_pool2d(maps, self.grid)
        return np.ascontiguousarray(maps.permute(0, 2, 3, 1).numpy())


class _Components:
    """Principal components of some features, divided by the root of their deviations, then scaled to mean variance 1."""

    def __init__(self, features: np.ndarray, dims: int) -> None:
        self.mean = features.mean(axis=0)
        centred = features - self.mean
        values, vectors = np.linalg.eigh(centred.T @ centred / len(centred))
        self.dims = min(dims, len(values), len(features) - 1)
        values, vectors = values[::-1][: self.dims].clip(1e-9), vectors[:, ::-1][:, : self.dims]
        scaled = vectors * values**-0.25
        self.matrix = (scaled / np.sqrt(np.sqrt(values).mean())).astype(np.float32)

    def __call__(self, features: np.ndarray) -> np.ndarray:
        return (features - self.mean) @ self.matrix


def heads(width: int, teacher: TeacherFeatures) -> nn.ModuleDict:
    """Linear heads that predict the teacher's features from the student's tokens; used in training only."""
    from torch import nn

    patches = nn.Linear(width, teacher.patches.shape[-1])
    return nn.ModuleDict({"patches": patches, "pooled": nn.Linear(width, teacher.pooled.shape[-1])})
