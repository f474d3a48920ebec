"""A linear head on the features of EfficientNet-Lite0, with calibrated probabilities and a distance to its training pictures.

Knows no pathology. It says of a picture: the classes' probabilities, and whether it is like those that it was fitted on. Another
laboratory's pictures are told by the early stages of the network, which see grain, texture and colour.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import softmax

from pathasst.core import weights
from pathasst.core.errors import BadInput
from pathasst.nn.components import principal, standardise
from pathasst.nn.multiscale import WIDTHS, pooled

CONFIG, WEIGHTS = "config.json", "model.safetensors"
COMPONENTS = 256  # principal components that the logistic regression reads
DIRECTIONS = 24  # principal directions of the distance
BALANCE = 0.7  # 0: every picture alike; 1: every class of a source alike
REFUSED = 0.05  # share of unseen pictures of the same sources beyond the limit
_TOTAL, _EARLY = sum(WIDTHS), sum(WIDTHS[:5])
FEATURES = 3 * _TOTAL
EARLY = np.r_[0:_EARLY, _TOTAL : _TOTAL + _EARLY]
"""Places of the means and deviations of the first five stages."""


@dataclass(frozen=True, slots=True)
class HeadOutput:
    """Of n pictures: `probabilities` float32 [n, classes]; `distances` float32 [n], above 1 unlike the training pictures."""

    probabilities: np.ndarray
    distances: np.ndarray


@dataclass(slots=True)
class Head:
    """`tensors`: `weight` [classes, 6192], `bias`, and those of the distance (see `fit_distance`).

    `least`: the probability of each class from which on it is stated; below it the picture is not classed.
    """

    classes: tuple[str, ...]
    tensors: dict[str, np.ndarray]
    temperature: float = 1.0
    limit: float = 1.0
    least: tuple[float, ...] = ()

    @classmethod
    def load(cls, source: str | Path) -> Head:
        """By registry id or folder. Raises MissingWeights, BadInput."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        folder = Path(source) if Path(source).is_dir() else weights.path(str(source))
        try:
            config: dict[str, Any] = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
            tensors = {name: value.astype(np.float32) for name, value in load_file(folder / WEIGHTS).items()}
            classes, least = tuple(config["classes"]), config["least"]
            each = tuple(least) if isinstance(least, list) else (float(least),) * len(classes)
            return cls(classes, tensors, config["temperature"], config["limit"], each)
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise BadInput(f"{folder} holds no head on EfficientNet-Lite0: {error}") from error

    def save(self, folder: Path) -> None:
        """Write `model.safetensors` (fp16) and `config.json`; the folder is made."""
        from safetensors.numpy import save_file

        folder.mkdir(parents=True, exist_ok=True)
        halves = {name: np.ascontiguousarray(value, dtype=np.float16) for name, value in self.tensors.items()}
        save_file(halves, folder / WEIGHTS)
        config = {"classes": self.classes, "temperature": self.temperature, "limit": self.limit, "least": self.least}
        (folder / CONFIG).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")

    def __call__(self, pictures: Sequence[np.ndarray]) -> HeadOutput:
        """Of H×W×3 uint8 RGB pictures of any sizes, each squashed to the network's square."""
        return self.judge(features_of(pictures))

    def judge(self, features: np.ndarray) -> HeadOutput:
        """Of features [n, 6192]."""
        logits = self.logits(features) / self.temperature
        return HeadOutput(softmax(logits, axis=1), distance(features, self.tensors) / self.limit)

    def statements(self, output: HeadOutput, far: float = 1.0) -> list[str]:
        """The class of each picture; empty where none is sure enough, or beyond `far` times the limit of the distance."""
        least = self.least or (0.0,) * len(self.classes)
        return [
            self.classes[k] if p[k] >= least[k] and d <= far else ""
            for p, d, k in zip(output.probabilities, output.distances, output.probabilities.argmax(1), strict=True)
        ]

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Float32 [n, classes], before temperature and softmax."""
        values: np.ndarray = features.astype(np.float32) @ self.tensors["weight"].T + self.tensors["bias"]
        return values


@lru_cache(maxsize=4)
def load(id: str) -> Head:
    """A head by id, kept for all calls. Raises MissingWeights, BadInput."""
    return Head.load(id)


def features_of(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Float32 [n, 6192] of pictures that are squashed to 224 px, as crops of cells are. Raises MissingWeights."""
    import cv2

    resized = []
    for picture in pictures:
        shrinks = min(picture.shape[:2]) > 224
        resized.append(np.asarray(cv2.resize(picture, (224, 224), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)))
    return pooled(resized)


def fit(views: np.ndarray, labels: Sequence[str], sources: Sequence[str], classes: Sequence[str], strength: float = 10.0) -> Head:
    """Logistic regression on principal components, of equal weight for sources and nearly so for classes.

    `views`: features [v, n, 6192] of v random views of n pictures, the plain one first. `strength`: C times the features.
    """
    from sklearn.linear_model import LogisticRegression

    counts = Counter(zip(sources, labels, strict=True))
    odds = np.array([counts[pair] ** -BALANCE for pair in zip(sources, labels, strict=True)])
    features = views.reshape(-1, views.shape[2]).astype(np.float32)
    mean, deviation, normal = standardise(features)
    directions = principal(normal, COMPONENTS)[0] / np.sqrt(normal.shape[1])
    regression = LogisticRegression(C=strength, max_iter=300)
    regression.fit(normal @ directions.T, np.tile(labels, len(views)), np.tile(odds / odds.mean(), len(views)))
    slopes, offsets = regression.coef_, regression.intercept_
    if len(regression.classes_) == 2:  # scikit-learn holds one row for two classes
        slopes, offsets = np.stack([-slopes[0], slopes[0]]) / 2, np.array([-1, 1]) * offsets / 2
    weight = np.zeros((len(classes), normal.shape[1]), np.float32)
    bias = np.full(len(classes), -20.0, np.float32)  # of a class without a training picture
    rows = [list(classes).index(c) for c in regression.classes_]
    weight[rows] = slopes @ directions / deviation
    bias[rows] = offsets - weight[rows] @ mean
    return Head(tuple(classes), {"weight": weight, "bias": bias} | fit_distance(features))


def fit_distance(features: np.ndarray) -> dict[str, np.ndarray]:
    """What `distance` needs, of the training pictures' features [n, 6192]."""
    early = features[:, EARLY].astype(np.float32)
    mean, deviation, normal = standardise(early)
    directions, variances = principal(normal, DIRECTIONS)
    outside = (normal**2).sum(1) - ((normal @ directions.T) ** 2).sum(1)
    parts = {"mean": mean, "deviation": deviation, "directions": directions, "variances": variances}
    return {f"early_{name}": value for name, value in parts.items()} | {"early_outside": np.array([outside.mean()])}


def distance(features: np.ndarray, tensors: dict[str, np.ndarray]) -> np.ndarray:
    """Float [n]: squared Mahalanobis distance in the principal directions, and what lies outside of these, each about 1."""
    normal = (features[:, EARLY].astype(np.float32) - tensors["early_mean"]) / tensors["early_deviation"]
    along = normal @ tensors["early_directions"].T
    outside = (normal**2).sum(1) - (along**2).sum(1)
    return (along**2 / tensors["early_variances"]).mean(1) + outside / tensors["early_outside"]  # type: ignore[no-any-return]
