"""Overlap of two boxes x1 y1 x2 y2, which panels, page layout and slides need. Knows no model."""

from __future__ import annotations

from collections.abc import Sequence


def area(box: Sequence[float]) -> float:
    """Width times height; 0 of a box that is turned round."""
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def intersection(a: Sequence[float], b: Sequence[float]) -> float:
    """Area that two boxes share."""
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def iou(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union of two boxes."""
    shared = intersection(a, b)
    return shared / (area(a) + area(b) - shared) if shared else 0.0


def share_of_smaller(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over the smaller box: 1 where one lies within the other."""
    smaller = min(area(a), area(b))
    return intersection(a, b) / smaller if smaller > 0 else 0.0
