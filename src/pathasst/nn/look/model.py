"""The fitted look: linear heads with calibrated probabilities, and a distance to what they were fitted on. Knows no pathology.

Features are those of EfficientNet-Lite0 read at every depth (`nn.multiscale`), the tower of `pathclip-lite`: one run of the
network serves all questions. Strange pictures are told by the early stages alone, which see grain, texture and colour: to the
last layer a chart is as familiar as a tissue.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import softmax

from pathasst.core import weights
from pathasst.core.errors import BadInput
from pathasst.nn.multiscale import WIDTHS

CONFIG, WEIGHTS = "config.json", "model.safetensors"
EARLY = sum(WIDTHS[:6])
"""Channels of the stages that tell strange pictures."""
TOTAL = sum(WIDTHS)


@dataclass(frozen=True, slots=True)
class LookAnswer:
    """One question about one picture. `choice` is None where no class is sure enough to be stated."""

    choice: str | None
    probability: float  # of the likeliest class
    probabilities: dict[str, float]  # of all classes, the likeliest first


@dataclass(frozen=True, slots=True)
class LookResult:
    """What was seen in one picture. Beyond a `distance` of 1, where 5 % of the training pictures lie, it is `unlike` them."""

    answers: dict[str, LookAnswer]
    distance: float
    far: float  # the distance above which 1 % of the training pictures lie

    @property
    def unlike(self) -> bool:
        return self.distance > 1


class Looker:
    """Heads and distance, ready. `tensors`: see `fit`; `config`: questions with classes, temperature and least probability."""

    def __init__(self, tensors: dict[str, np.ndarray], config: dict[str, Any]) -> None:
        self.tensors: dict[str, np.ndarray] = {k: v.astype(np.float32) for k, v in tensors.items()}
        self.config = config

    @classmethod
    def load(cls, source: str | Path) -> Looker:
        """By registry id or folder. Raises MissingWeights, BadInput."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        folder = Path(source) if Path(source).is_dir() else weights.path(str(source))
        try:
            return cls(load_file(folder / WEIGHTS), json.loads((folder / CONFIG).read_text(encoding="utf-8")))
        except (OSError, ValueError, SafetensorError) as error:
            raise BadInput(f"{folder} holds no look of ours: {error}") from error

    def save(self, folder: Path) -> None:
        """`model.safetensors` (fp16) and `config.json`."""
        from safetensors.numpy import save_file

        folder.mkdir(parents=True, exist_ok=True)
        save_file({k: np.ascontiguousarray(v, np.float16) for k, v in self.tensors.items()}, folder / WEIGHTS)
        (folder / CONFIG).write_text(json.dumps(self.config, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    def __call__(self, pictures: Sequence[np.ndarray]) -> list[LookResult]:
        """Of H×W×3 uint8 RGB pictures of any sizes."""
        from pathasst.nn.multiscale import pooled

        return self.read(pooled(pictures))

    def read(self, features: np.ndarray) -> list[LookResult]:
        """Of features, float [n, 6192], as `nn.multiscale` gives them."""
        normal = standardised(features, self.tensors)
        logits = normal @ self.tensors["heads"].T + self.tensors["bias"]
        distances = distance(normal, self.tensors) / self.config["limit"]
        answers: list[dict[str, LookAnswer]] = [{} for _ in distances]
        start = 0
        for name, question in self.config["questions"].items():
            classes = question["classes"]
            odds = softmax(logits[:, start : start + len(classes)] / question["temperature"], axis=1)
            start += len(classes)
            for row, p in zip(answers, odds, strict=True):
                order = np.argsort(-p)
                best = float(p[order[0]])
                sure = best >= question["least"] and classes[order[0]] not in question.get("unstated", ())
                shares = {classes[i]: round(float(p[i]), 3) for i in order}
                row[name] = LookAnswer(classes[order[0]] if sure else None, best, shares)
        far = self.config["far"] / self.config["limit"]
        return [LookResult(a, float(d), far) for a, d in zip(answers, distances, strict=True)]


@lru_cache(maxsize=2)
def load(id: str) -> Looker:
    """A looker by id, kept for all calls. Raises MissingWeights."""
    return Looker.load(id)


def standardised(features: np.ndarray, tensors: dict[str, np.ndarray]) -> np.ndarray:
    """Means and deviations of all depths, float32 [n, 4128], with mean 0 and deviation 1 on the training pictures."""
    return (features[:, : 2 * TOTAL].astype(np.float32) - tensors["mean"]) / tensors["deviation"]


def early(normal: np.ndarray) -> np.ndarray:
    """Means and deviations of the early stages, [n, 928], of `standardised` features."""
    return np.concatenate([normal[:, :EARLY], normal[:, TOTAL : TOTAL + EARLY]], axis=1)


def distance(normal: np.ndarray, tensors: dict[str, np.ndarray]) -> np.ndarray:
    """Float [n]: squared Mahalanobis distance in the principal directions, and what lies outside of these, each about 1."""
    near = early(normal) - tensors["centre"]
    along = near @ tensors["directions"].T
    outside = np.maximum((near**2).sum(1) - (along**2).sum(1), 0) / near.shape[1]
    return (along**2 / tensors["variances"]).mean(1) + outside / tensors["outside"]  # type: ignore[no-any-return]
