"""The second stage of a detector: each box is judged again by a picture of it alone.

The first stage sees a box through features that were made to find it, at the scale of the whole field. A linear head on the
features of EfficientNet-Lite0 (`pathasst.nn.heads`) sees its crop at 224 px, as Fast R-CNN's head sees each proposal. Knows
detectors by their boxes alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pathasst.core.errors import BadDataset, BadSettings
from pathasst.imaging.pictures import crop, widen
from pathasst.nn import heads
from pathasst.nn.detector.boxes import Boxes, iou_matrix
from pathasst.nn.detector.data import Labelled
from pathasst.nn.detector.settings import DetectorSettings, SecondStageSettings
from pathasst.nn.heads import Head

if TYPE_CHECKING:
    from pathasst.nn.detector.infer import Detector

FOLDER = "second_stage"
BACKGROUND = "background"
HIT, TOUCHING = 0.5, 0.3
"""IoU with a labelled object from which on a box is one of it, and from which on it is no background."""
LEAST = 0.02
"""Least score of the first stage's boxes that the head learns from."""


@dataclass(slots=True)
class SecondStage:
    """The head with its settings. `classes`: the head's that are reported."""

    head: Head
    settings: SecondStageSettings
    classes: tuple[str, ...]

    @classmethod
    def of(cls, head: Head, settings: DetectorSettings) -> SecondStage:
        """Beside a detector of these settings. Raises BadSettings where the head is another detector's."""
        stage = settings.second_stage
        groups = settings.groups
        if stage is None or set(head.classes) - {BACKGROUND} != set(groups.values()):
            own, theirs = ", ".join(settings.classes), ", ".join(head.classes)
            raise BadSettings(f"the second stage knows {theirs}; it does not belong to a detector of {own}.")
        return cls(head, stage, tuple(sorted({groups[settings.classes[i]] for i in settings.reported})))

    @classmethod
    def load(cls, folder: Path, settings: DetectorSettings) -> SecondStage | None:
        """Of a detector's folder; None if its settings have none. Raises BadInput, BadSettings."""
        return cls.of(Head.load(folder), settings) if settings.second_stage else None

    def first_score(self, score: float) -> float:
        """The least score that a box must have from the first stage to reach `score` in the end."""
        return max(self.settings.least, score ** (1 / (1 - self.settings.weight)))

    def __call__(self, picture: np.ndarray, boxes: Boxes) -> Boxes:
        """The boxes of an H×W×3 uint8 RGB picture, best first; scores are the weighted geometric mean of both stages'."""
        if not len(boxes):
            return boxes
        output = self.head(crops(picture, boxes.xyxy, self.settings.margin))
        sure = output.probabilities[:, [self.head.classes.index(c) for c in self.classes]].sum(1).clip(0, 1)
        scores = boxes.scores ** (1 - self.settings.weight) * sure**self.settings.weight
        order = np.argsort(-scores, kind="stable")
        return Boxes(boxes.xyxy[order], scores[order].astype(np.float32), boxes.classes[order])


def fit(detector: Detector, pictures: Sequence[Labelled]) -> SecondStage:
    """Fit the head of a detector that has none yet on its boxes in labelled pictures.

    Boxes of an object have its class, others are background. Raises BadDataset where they hit nothing, or nothing else;
    MissingWeights.
    """
    settings = detector.settings
    stage = settings.second_stage or SecondStageSettings()
    features: list[np.ndarray] = []
    labels: list[str] = []
    for picture in pictures:
        pixels = picture.pixels()
        boxes = detector.detect([pixels], min_score=LEAST)[0]
        overlap = iou_matrix(boxes.xyxy, picture.boxes)
        best = overlap.max(1, initial=0)
        hits = np.flatnonzero(best >= HIT)
        misses = np.flatnonzero(best < TOUCHING)[: stage.background]
        objects = picture.labels[overlap[hits].argmax(1)] if len(hits) else []
        labels += [settings.groups[settings.classes[i]] for i in objects] + [BACKGROUND] * len(misses)
        features.append(heads.features_of(crops(pixels, boxes.xyxy[np.concatenate([hits, misses])], stage.margin)))
    if len(set(labels)) < 2:
        what = "hits no labelled object" if set(labels) <= {BACKGROUND} else "hits objects of one class alone"
        raise BadDataset(f"the second stage has nothing to learn: the detector {what}. Train it longer, or without second_stage.")
    classes = sorted({*settings.groups.values(), BACKGROUND})
    return SecondStage.of(
        heads.fit(np.concatenate(features)[None], labels, [""] * len(labels), classes, stage.strength), settings
    )


def crops(picture: np.ndarray, xyxy: np.ndarray, margin: float) -> list[np.ndarray]:
    """The pixels of each box n×4 px, widened by `margin` of its sides, clipped to the picture."""
    return [crop(picture, widen((x1, y1, x2, y2), margin)) for x1, y1, x2, y2 in xyxy.tolist()]
