"""Augmentation for the select model: what a publisher's page does to any picture, done to both classes alike.

Knows pixel arrays only. Every draw comes from the generator that the caller passes, so a step is the same in every run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

SIDE = 224  # px, longer side of what is returned: above the network's input, small enough to be quick


class Augment:
    """Call with a generator and a picture's number; gives one augmented picture, or a compound one of its class."""

    def __init__(self, pictures: Sequence[np.ndarray], kinds: Sequence[tuple[str, str]]) -> None:
        """`kinds`: (label, source) of each picture. Montages draw from their label, sources by the root of their size."""
        import numpy as np

        self.pictures = pictures
        self.labels = [label for label, _ in kinds]
        counts = Counter(kinds)
        weight = np.array([counts[k] ** -0.5 for k in kinds])
        self.members = {x: np.flatnonzero([x == y for y in self.labels]) for x in set(self.labels)}
        self.odds = {x: weight[m].cumsum() / weight[m].sum() for x, m in self.members.items()}

    def __call__(self, rng: np.random.Generator, index: int) -> np.ndarray:
        compound = rng.random() < 0.25
        picture = self._montage(rng, index) if compound else crop_and_turn(self.pictures[index], rng)
        picture = _limit(picture, SIDE)
        picture = colour(picture, rng)
        if rng.random() < 0.4:
            picture = mark(picture, rng)
        if rng.random() < 0.35:
            picture = frame(picture, rng)
        return degrade(picture, rng)

    def _draw(self, rng: np.random.Generator, label: str) -> int:
        return int(self.members[label][min(self.odds[label].searchsorted(rng.random()), len(self.members[label]) - 1)])

    def _montage(self, rng: np.random.Generator, index: int) -> np.ndarray:
        """A compound figure of 2–6 pictures of one class on a light or dark ground."""
        import cv2
        import numpy as np

        columns, rows = (int(v) for v in rng.integers(1, 4, 2))
        if columns * rows == 1:
            columns = 2
        cell_w, cell_h = (int(v) for v in rng.integers(70, 150, 2))
        gap, below = int(rng.integers(0, 14)), int(rng.integers(0, 18)) if rng.random() < 0.5 else 0
        ground = 255 if rng.random() < 0.8 else int(rng.integers(0, 60))
        sheet = np.full((rows * (cell_h + gap + below) + gap, columns * (cell_w + gap) + gap, 3), ground, np.uint8)
        alike = rng.random() < 0.4
        for n in range(columns * rows):
            if n and rng.random() < 0.06:
                continue
            tile = crop_and_turn(self.pictures[index if alike or not n else self._draw(rng, self.labels[index])], rng)
            tile = cv2.resize(_limit(tile, 2 * max(cell_w, cell_h)), (cell_w, cell_h), interpolation=cv2.INTER_AREA)
            y, x = gap + (n // columns) * (cell_h + gap + below), gap + (n % columns) * (cell_w + gap)
            sheet[y : y + cell_h, x : x + cell_w] = tile
            if below > 8:
                ink = (0, 0, 0) if ground > 128 else (255, 255, 255)
                at = (x + cell_w // 2 - 6, y + cell_h + below - 3)
                cv2.putText(sheet, f"({chr(97 + n)})", at, cv2.FONT_HERSHEY_SIMPLEX, 0.33, ink, 1, cv2.LINE_AA)
        return sheet


def crop_and_turn(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A random part (35–100 % of each side, often all of it), perhaps mirrored or turned by right angles."""
    import numpy as np

    height, width = picture.shape[:2]
    if rng.random() < 0.6:
        h, w = (max(24, int(side * rng.uniform(0.35, 1.0))) for side in (height, width))
        h, w = min(h, height), min(w, width)
        y, x = int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1))
        picture = picture[y : y + h, x : x + w]
    if rng.random() < 0.5:
        picture = picture[:, ::-1]
    if rng.random() < 0.3:
        picture = np.rot90(picture, int(rng.integers(1, 4)))
    return np.ascontiguousarray(picture)


def colour(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Brightness, contrast, white balance, saturation and a little hue; sometimes grey."""
    import cv2
    import numpy as np

    x = picture.astype(np.float32)
    mean = x.mean()
    x = (x - mean) * rng.uniform(0.65, 1.35) + mean * rng.uniform(0.75, 1.2)
    x *= rng.uniform(0.9, 1.1, 3).astype(np.float32)
    x = np.clip(x, 0, 255)
    if rng.random() < 0.02:
        return np.repeat(cv2.cvtColor(x.astype(np.uint8), cv2.COLOR_RGB2GRAY)[:, :, None], 3, axis=2)
    hsv = cv2.cvtColor(x.astype(np.uint8), cv2.COLOR_RGB2HSV).astype(np.int16)
    hsv[..., 0] = (hsv[..., 0] + int(rng.integers(-7, 8))) % 180
    hsv[..., 1] = np.clip(hsv[..., 1] * rng.uniform(0.6, 1.4), 0, 255)
    return cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2RGB)


def mark(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Printed letters, arrows, a scale bar or a ruler line, as figures carry them."""
    import cv2

    picture = picture.copy()
    height, width = picture.shape[:2]
    ink = [(0, 0, 0), (255, 255, 255), (255, 255, 0), (200, 0, 0)][int(rng.integers(0, 4))]
    for _ in range(int(rng.integers(1, 4))):
        x, y = int(rng.integers(0, width)), int(rng.integers(0, height))
        kind = rng.random()
        if kind < 0.5:
            text = "".join(chr(int(c)) for c in rng.integers(65, 91, int(rng.integers(1, 5))))
            cv2.putText(
                picture, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, float(rng.uniform(0.3, 1.2)), ink, int(rng.integers(1, 3))
            )
        elif kind < 0.8:
            end = (x + int(rng.integers(-40, 41)), y + int(rng.integers(-40, 41)))
            cv2.arrowedLine(picture, (x, y), end, ink, int(rng.integers(1, 4)), tipLength=0.4)
        else:
            cv2.line(picture, (x, y), (x + int(rng.integers(15, 80)), y), ink, int(rng.integers(1, 4)))
    return picture


def frame(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A margin of unequal width around the picture, mostly white."""
    import cv2

    top, bottom, left, right = (int(v) for v in rng.integers(0, 0.15 * max(picture.shape[:2]) + 2, 4))
    ground = int(rng.integers(235, 256)) if rng.random() < 0.8 else int(rng.integers(0, 256))
    return cv2.copyMakeBorder(picture, top, bottom, left, right, cv2.BORDER_CONSTANT, value=(ground, ground, ground))


def degrade(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blur, noise, a low resolution and JPEG, each some of the time."""
    import cv2
    import numpy as np

    if rng.random() < 0.25:
        scale = rng.uniform(0.25, 0.8)
        small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        picture = cv2.resize(small, picture.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    if rng.random() < 0.2:
        picture = cv2.GaussianBlur(picture, (0, 0), float(rng.uniform(0.4, 1.8)))
    if rng.random() < 0.2:
        noise = rng.normal(0, rng.uniform(2, 10), picture.shape).astype(np.float32)
        picture = np.clip(picture + noise, 0, 255).astype(np.uint8)
    if rng.random() < 0.6:
        success, coded = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 96))])
        if success:
            picture = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR))[..., ::-1]
    return np.ascontiguousarray(picture)


def _limit(picture: np.ndarray, side: int) -> np.ndarray:
    import cv2

    scale = side / max(picture.shape[:2])
    return cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else picture
