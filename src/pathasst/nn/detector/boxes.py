"""Boxes: what every detector gives and every measure takes. Knows arrays alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Boxes:
    """Boxes of one picture. `xyxy` n×4 float32 px (corners, continuous), `scores` n float32, `classes` n int64."""

    xyxy: np.ndarray
    scores: np.ndarray
    classes: np.ndarray

    def __len__(self) -> int:
        return len(self.xyxy)

    def take(self, rows: np.ndarray) -> Boxes:
        """The boxes at some indices or under a boolean mask."""
        return Boxes(self.xyxy[rows], self.scores[rows], self.classes[rows])

    def above(self, score: float) -> Boxes:
        """The boxes of at least this score."""
        return self.take(self.scores >= score)

    def first(self, most: int) -> Boxes:
        """The first boxes, at most so many."""
        return Boxes(self.xyxy[:most], self.scores[:most], self.classes[:most])

    @staticmethod
    def none() -> Boxes:
        return Boxes(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))

    @staticmethod
    def join(parts: list[Boxes]) -> Boxes:
        """The boxes of several sets in one."""
        if not parts:
            return Boxes.none()
        return Boxes(*(np.concatenate([getattr(p, k) for p in parts]) for k in ("xyxy", "scores", "classes")))


def iou_matrix(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of n×4 with m×4 boxes: float [n, m]."""
    corner = np.maximum(a[:, None, :2], b[None, :, :2])
    far = np.minimum(a[:, None, 2:], b[None, :, 2:])
    common = np.prod(np.clip(far - corner, 0, None), -1)
    areas = [np.prod(np.clip(x[:, 2:] - x[:, :2], 0, None), -1) for x in (a, b)]
    union = areas[0][:, None] + areas[1][None] - common
    return np.asarray(common / np.maximum(union, 1e-9))


def suppress(boxes: Boxes, overlap: float, across_classes: bool = False) -> Boxes:
    """Non-maximum suppression: a box that overlaps a better one by more than `overlap` goes; best first."""
    import torch
    from torchvision.ops import batched_nms, nms

    if not len(boxes):
        return boxes
    xyxy, scores = torch.from_numpy(boxes.xyxy), torch.from_numpy(boxes.scores)
    rows = nms(xyxy, scores, overlap) if across_classes else batched_nms(xyxy, scores, torch.from_numpy(boxes.classes), overlap)
    return boxes.take(rows.numpy())


def fuse(views: list[Boxes], overlap: float, across_classes: bool = False, close: float = 0.7) -> Boxes:
    """One set of boxes from one or several readings of the same picture, suppressed; best first.

    A box's score is the mean over the readings (0 where it was not seen), its corners are the score-weighted mean of all boxes of
    its class that overlap it by at least `close`.
    """
    kept_each = [suppress(v, overlap, across_classes) for v in views]
    merged, every = suppress(Boxes.join(kept_each), overlap, across_classes), Boxes.join(views)
    if not len(merged):
        return merged
    weights = (_same_class_iou(merged, every) >= close) * (every.scores + 1e-6)
    corners = (weights @ every.xyxy / weights.sum(1, keepdims=True)).astype(np.float32)
    scores = np.zeros(len(merged), np.float32)
    for one in kept_each:
        if len(one):
            iou = _same_class_iou(merged, one)
            best = iou.argmax(1)
            scores += np.where(iou.max(1) > overlap, one.scores[best], 0) / len(views)
    order = np.argsort(-scores, kind="stable")
    return Boxes(corners, scores, merged.classes).take(order)


def _same_class_iou(a: Boxes, b: Boxes) -> np.ndarray:
    """`iou_matrix` of many boxes, 0 between classes; through torchvision, several times as fast."""
    import torch
    from torchvision.ops import box_iou

    return box_iou(torch.from_numpy(a.xyxy), torch.from_numpy(b.xyxy)).numpy() * (a.classes[:, None] == b.classes[None])
