"""Drawn fields of discs, and a detector that learnt them for a few steps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from pathasst.nn.detector.data import Labelled
from pathasst.nn.detector.settings import DetectorSettings, DetectorTraining

COLOURS = ((200, 40, 40), (40, 60, 200))


def field(seed: int, width: int = 96, height: int = 80, count: int = 4) -> Labelled:
    """A field of red (0) and blue (1) discs on a light ground, in a grid so that none overlap."""
    rng = np.random.default_rng(seed)
    image = np.full((height, width, 3), 230, np.uint8)
    cells = rng.permutation([(x, y) for x in range(0, width - 31, 32) for y in range(0, height - 31, 32)])[:count]
    boxes, labels = [], []
    for x, y in cells:
        radius, kind = int(rng.integers(9, 15)), int(rng.integers(2))
        cv2.circle(image, (int(x) + 16, int(y) + 16), radius, COLOURS[kind], -1)
        boxes.append([x + 16 - radius, y + 16 - radius, x + 17 + radius, y + 17 + radius])
        labels.append(kind)
    return Labelled(f"{seed}.png", lambda: image, np.array(boxes, np.float32), np.array(labels), group=f"{seed}")


DISCS = DetectorTraining(
    model=DetectorSettings(classes=("red", "blue"), channels=32, blocks=1, size=96, scale=1.0, overlap=48),
    start="",
    frozen="none",
    steps=80,
    batch=4,
    crop=64,
    lr=3e-3,
    backbone_rate=1.0,
    warmup=0.1,
    ema=0.9,
    mosaic=0.2,
    colour=0.3,
    evaluate_every=40,
    save_every=10,
    workers=0,
)


@pytest.fixture(scope="session")
def discs() -> Callable[..., Labelled]:
    """Makes a field of discs from a seed (and width, height, count)."""
    return field


@pytest.fixture(scope="session")
def colours() -> tuple[tuple[int, int, int], ...]:
    """Of the discs of class 0 and 1."""
    return COLOURS


@pytest.fixture(scope="session")
def settings() -> DetectorTraining:
    """A training of seconds."""
    return DISCS


@pytest.fixture(scope="session")
def splits() -> dict[str, list[Labelled]]:
    return {
        "train": [field(i) for i in range(12)],
        "val": [field(i) for i in range(50, 53)],
        "test": [field(i) for i in range(90, 94)],
    }


@pytest.fixture(scope="session")
def trained(tmp_path_factory, splits) -> tuple[Path, dict]:
    """Folder and scores of a detector trained on discs."""
    import torch

    from pathasst.nn.detector.train import train

    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("discs")
    return out, train(DISCS, out, splits)
