"""What a zero-shot classifier is measured against: chance, colour, and linear classifiers on frozen features.

Knows zero-shot tasks and arrays. `histogram` looks at colours alone. `probe` is fitted to labelled training pictures of the very
set: on good features it says how much there is to be seen, on histograms how little is needed. `ColourWords` learns from the same
captions as PathCLIP, but sees only colours: the baseline for a set that was left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pathasst.clip.build import ClipConfig
from pathasst.clip.lit import embed_pixels
from pathasst.clip.scores import ClassificationScores, class_scores
from pathasst.clip.zeroshot import ZeroShotPicture, ZeroShotTask

if TYPE_CHECKING:
    from pathasst.clip.model import PathCLIPModel, Picture


def histogram(picture: Picture) -> np.ndarray:
    """Joint RGB histogram (4×4×4), mean and deviation of each channel: float [70]."""
    from pathasst.clip.model import to_square

    pixels = np.asarray(to_square(picture, 128)).reshape(-1, 3)
    bins = (pixels // 64).astype(int) @ np.array([16, 4, 1])
    share = np.bincount(bins, minlength=64) / len(pixels)
    return np.concatenate([share, pixels.mean(axis=0) / 255, pixels.std(axis=0) / 255])


def trunk_features(trunk: Any, config: ClipConfig, pictures: Iterable[Picture], batch: int = 32) -> np.ndarray:
    """Pooled features of a convolutional tower, float32 [n, d], with the preprocessing of `config`."""
    from pathasst.clip.model import to_square

    mean, std = np.asarray(config.mean, np.float32), np.asarray(config.std, np.float32)
    images = [np.asarray(to_square(p, config.image_size)) for p in pictures]
    parts = (np.stack(images[start : start + batch]) for start in range(0, len(images), batch))
    return np.concatenate([embed_pixels(trunk, (part.astype(np.float32) / 255 - mean) / std) for part in parts])


def teacher_features(pictures: Iterable[Picture], size: int = 224) -> np.ndarray:
    """The 1280 pooled features of EfficientNet-Lite0 with ImageNet weights, which never saw pathology: float32 [n, 1280]."""
    from pathasst.nn.pretrained import MEAN, STD, efficientnet_lite0

    return trunk_features(efficientnet_lite0().eval(), ClipConfig({"vision_cfg": {"image_size": size}}, MEAN, STD), pictures)


def tower_features(clip: PathCLIPModel, pictures: Iterable[Picture], batch: int = 64) -> np.ndarray:
    """The pooled token of the vision tower, before the projection to the texts: float32 [n, width]."""
    import torch

    if hasattr(clip.model.visual, "trunk"):
        return trunk_features(clip.model.visual.trunk, clip.config, pictures)  # type: ignore[union-attr]
    tower = clip.vision_tower()
    pixels = [clip.preprocess(p) for p in pictures]
    with torch.inference_mode():
        parts = [tower(torch.stack(pixels[s : s + batch])).pooler_output.numpy() for s in range(0, len(pixels), batch)]
    return np.concatenate(parts)


def probe(
    task: ZeroShotTask, features: dict[str, np.ndarray], train: Sequence[ZeroShotPicture], test: Sequence[ZeroShotPicture]
) -> ClassificationScores:
    """Logistic regression on frozen features (by example id); its strength by cross-validation over the groups of `train`."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, GroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    groups = [e.cluster for e in train]
    line = make_pipeline(StandardScaler(), LogisticRegression(max_iter=200, class_weight="balanced"))
    grid = {"logisticregression__C": [0.001, 0.01, 0.1]}
    search: Any = GridSearchCV(line, grid, cv=GroupKFold(min(3, len(set(groups)))), scoring="f1_macro")
    search.fit(np.stack([features[e.id] for e in train]), [e.label for e in train], groups=groups)
    predicted = search.predict(np.stack([features[e.id] for e in test]))
    return class_scores([e.label for e in test], predicted, len(task.classes), [e.cluster for e in test])


def chance(task: ZeroShotTask, test: Sequence[ZeroShotPicture]) -> float:
    """Mean macro F1 of 20 runs that guess the classes with equal odds."""
    guesses, truth = np.random.default_rng(0), [e.label for e in test]
    runs = [class_scores(truth, guesses.integers(0, len(task.classes), len(truth)), len(task.classes)) for _ in range(20)]
    return float(np.mean([r.macro_f1.value for r in runs]))


class ColourWords:
    """Ridge regression from colour histograms to the text embeddings of true captions; classifies by the nearest prompt.

    What zero-shot by colour alone can do: no shape, no texture, but the same captions and the same text tower's words.
    """

    def __init__(self, colours: np.ndarray, text_embeddings: np.ndarray, weights: np.ndarray) -> None:
        """`colours`: [n, 70] of `histogram`; `text_embeddings`: [n, d], means over true captions; `weights` of pictures: [n]."""
        from sklearn.linear_model import Ridge
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        self.line = make_pipeline(StandardScaler(), Ridge(alpha=1.0))
        self.centre = text_embeddings.mean(axis=0)
        self.line.fit(colours, text_embeddings - self.centre, ridge__sample_weight=weights)

    def scores(self, task: ZeroShotTask, test: Sequence[ZeroShotPicture], prompts: np.ndarray) -> ClassificationScores:
        """`prompts`: float [classes, d], embedded as the captions were."""
        estimates = self.line.predict(np.stack([histogram(e.picture()) for e in test]))
        estimates /= np.linalg.norm(estimates, axis=1, keepdims=True).clip(1e-9)
        directions = prompts - self.centre
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        predicted = (estimates @ directions.T).argmax(axis=1)
        return class_scores([e.label for e in test], predicted, len(task.classes), [e.cluster for e in test])
