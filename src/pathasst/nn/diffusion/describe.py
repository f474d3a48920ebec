"""What can be measured on a crop of one cell, and the words for it. Knows pixels and words, no network.

Nothing is invented: every word but the class, which is the label's, follows from the picture by a stated limit. The nucleus is
the dark region at the crop's middle (Otsu's limit on optical density); where none is found, the attributes stay unsaid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

import numpy as np

LONG = {
    "NILM": "normal squamous cell",
    "ASC-US": "atypical squamous cell of undetermined significance",
    "LSIL": "low-grade squamous intraepithelial lesion",
    "ASC-H": "atypical squamous cell, high grade not excluded",
    "HSIL": "high-grade squamous intraepithelial lesion",
    "SCC": "squamous cell carcinoma",
}
ENLARGED = (
    (1.3, "normal-sized nucleus"),
    (2.0, "slightly enlarged nucleus"),
    (3.2, "enlarged nucleus"),
    (99.0, "very large nucleus"),
)
"""Limits of the nucleus' area against the median normal cell's."""


@dataclass(frozen=True, slots=True)
class Measures:
    """One cell. `area`: of the nucleus, share of the crop; `darkness`: its mean optical density less its surroundings';
    `irregularity`: 1 − area/convex hull; `halo`: how much paler the ring around the nucleus is than what lies beyond (log10)."""

    area: float
    darkness: float
    irregularity: float
    halo: float


@dataclass(frozen=True, slots=True)
class GradeLimits:
    """From which value a word is used: fitted on the training cells, kept beside the weights."""

    normal_area: float  # median of the normal cells
    dark: float
    pale: float
    irregular: float
    halo: float

    @classmethod
    def fit(cls, cells: Sequence[Measures | None], labels: Sequence[str], normal: str = "NILM") -> GradeLimits:
        """Upper quantiles: a third of the cells counts as dark, a third as pale, a quarter as irregular, a fifth has a halo."""
        measured = [c for c in cells if c]
        usual = [c.area for c, label in zip(cells, labels, strict=True) if c and label == normal] or [c.area for c in measured]

        def quantile(name: str, q: float) -> float:
            return round(float(np.quantile([getattr(c, name) for c in measured], q)), 5)

        dark, pale = quantile("darkness", 0.67), quantile("darkness", 0.33)
        return cls(round(float(np.median(usual)), 5), dark, pale, quantile("irregularity", 0.75), quantile("halo", 0.8))

    def plain(self) -> dict[str, float]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Attributes:
    """What is said of a cell; None: nothing is said."""

    cell_class: str | None = None
    enlargement: float | None = None  # area of the nucleus against a normal cell's
    dark: bool | None = None  # False: pale
    irregular: bool | None = None
    halo: bool | None = None

    def without(self, rng: np.random.Generator, share: float = 0.3) -> Attributes:
        """Each known attribute but the class left out with that probability, so that the model learns to do without."""
        attributes = {
            f.name: None if f.name != "cell_class" and rng.random() < share else getattr(self, f.name) for f in fields(self)
        }
        return Attributes(**attributes)


def measure(crop: np.ndarray) -> Measures | None:
    """The nucleus at the middle of an H×W×3 uint8 RGB crop; None where no plausible one is found."""
    import cv2

    density = -np.log10((cv2.GaussianBlur(crop, (0, 0), crop.shape[0] / 64).astype(np.float32).mean(-1) + 1) / 256)
    scaled = np.clip(density * 180, 0, 255).astype(np.uint8)
    _, mask = cv2.threshold(scaled, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    count, parts = cv2.connectedComponents(mask)
    height, width = mask.shape
    middle = parts[height * 3 // 8 : height * 5 // 8, width * 3 // 8 : width * 5 // 8]
    if count < 2 or not (middle > 0).any():
        return None
    nucleus = (parts == np.bincount(middle[middle > 0]).argmax()).astype(np.uint8)
    share = float(nucleus.mean())
    if not 0.01 < share < 0.6:
        return None
    hull = cv2.convexHull(np.argwhere(nucleus)[:, ::-1].astype(np.int32))
    radius = np.sqrt(nucleus.sum() / np.pi)
    away = cv2.distanceTransform(1 - nucleus, cv2.DIST_L2, 5)
    near, far = (away > 0.15 * radius) & (away < 0.8 * radius), (away >= 0.8 * radius) & (away < 2 * radius)
    inside = float(density[nucleus > 0].mean())
    around = float(density[near].mean()) if near.any() else inside
    beyond = float(density[far].mean()) if far.any() else around
    irregular = 1 - float(nucleus.sum()) / max(float(cv2.contourArea(hull)), float(nucleus.sum()))
    return Measures(share, inside - around, irregular, beyond - around)


def attributes(cell_class: str, measures: Measures | None, limits: GradeLimits) -> Attributes:
    """The attributes of a measured cell by the limits."""
    if measures is None:
        return Attributes(cell_class)
    dark = True if measures.darkness >= limits.dark else False if measures.darkness <= limits.pale else None
    enlargement = round(measures.area / limits.normal_area, 2)
    return Attributes(cell_class, enlargement, dark, measures.irregularity >= limits.irregular, measures.halo >= limits.halo)


def words(what: Attributes, rng: np.random.Generator | None = None) -> str:
    """A sentence of the attributes; with `rng` in one of several wordings, as people write differently."""

    def pick(*wordings: str) -> str:
        return wordings[0] if rng is None else wordings[int(rng.integers(len(wordings)))]

    name = what.cell_class or "cervical"
    head = pick(
        f"{name} cell",
        f"{name}, {LONG.get(name, 'cell')}",
        f"a cervical cell of the class {name}",
        LONG.get(name, f"{name} cell"),
    )
    parts = []
    if what.enlargement is not None:
        parts.append(next(text for limit, text in ENLARGED if what.enlargement < limit))
    if what.dark is not None:
        parts.append(pick("dark nucleus", "hyperchromatic nucleus") if what.dark else pick("pale nucleus", "pale chromatin"))
    if what.irregular:
        parts.append(pick("irregular nucleus", "irregular nuclear outline"))
    elif what.irregular is False:
        parts.append(pick("smooth nucleus", "smooth nuclear outline"))
    if what.halo:
        parts.append(pick("clear halo around the nucleus", "koilocytic cytoplasm"))
    if rng is not None:
        rng.shuffle(parts)
    return f"{head} with {', '.join(parts)}" if parts else head
