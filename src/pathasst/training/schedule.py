"""The learning rate over a training. Knows shares, no steps."""

from __future__ import annotations

import math


def rate(progress: float, warmup: float, hold: float = 0.0) -> float:
    """Factor 0–1 on the highest learning rate at `progress` (0–1): linear warm-up, flat until `hold`, half a cosine to zero."""
    if progress < warmup:
        return progress / warmup
    start = max(warmup, hold)
    return 0.5 * (1 + math.cos(math.pi * min(max(progress - start, 0.0) / (1 - start), 1.0)))
