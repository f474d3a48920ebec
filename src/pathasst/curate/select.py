"""Select: is this picture pathology? (paper, PathCap step 1: a ConvNeXt filters the crawled pictures.)

Knows pictures and a classifier; knows nothing of figures, captions or licences. Two checkpoint layouts are read:

- ours: a folder of `pathasst.nn.classifier` with the classes other and pathology, and `threshold.json` beside it;
- the released `jamessyx/convnext-pathology-classifier`: a torch file whose key `model` holds a timm `convnext_tiny` under
  `model_global.*` and a linear layer `fc`; 224×224, ImageNet statistics, class 1 = pathology.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pathasst.core import weights
from pathasst.core.checkpoints import read_state
from pathasst.core.errors import BadInput, MissingWeights
from pathasst.core.files import sha256_of

if TYPE_CHECKING:
    import numpy as np
    import torch

    from pathasst.curate.onnx import OnnxClassifier
    from pathasst.nn.classifier import Classifier

EMBEDDED = "select-embedded"
CLASSES = ("other", "pathology")
BODY_SIDE = 320  # px of the longer side at which the body of a picture is looked for


class Selector:
    """A loaded classifier: pictures in, calibrated probabilities of pathology out."""

    def __init__(
        self, classifier: Classifier | OnnxClassifier, threshold: float = 0.5, version: str = "", *, bodies: bool = True
    ) -> None:
        self.classifier = classifier
        self.threshold = threshold  # of the calibrated probability
        self.version = version
        self.bodies = bodies  # look at the body of a picture with printed labels around it too

    @classmethod
    def load(cls, source: str | Path = EMBEDDED) -> Selector:
        """`source`: a registry id, a folder in our layout, or a torch file in the paper's layout.

        Raises MissingWeights when nothing is there, BadInput when the file is no such checkpoint.
        """
        path = Path(source)
        if path.is_file():
            return cls._released(path)
        if path.is_dir():
            torch_files = [p for p in sorted(path.iterdir()) if p.suffix in (".pt", ".pth", ".bin")]
            if not (path / "config.json").is_file() and torch_files:
                return cls._released(torch_files[0])
            return cls._own(path)
        return cls._own(weights.path(str(source)), weights.version(str(source)))

    @classmethod
    def _own(cls, folder: Path, version: str = "") -> Selector:
        from pathasst.curate.onnx import OnnxClassifier

        classifier = OnnxClassifier(folder)
        if classifier.classes != CLASSES:
            raise BadInput(f"{folder} tells {', '.join(classifier.classes)}, not other from pathology: no select model.")
        version = version or f"{folder.name}@{sha256_of(folder / 'model.safetensors')[:8]}"
        return cls(classifier, read_threshold(folder), f"{version}+bodies")

    @classmethod
    def _released(cls, path: Path) -> Selector:
        from pathasst.nn.classifier import Classifier, ClassifierConfig

        model = build_released()
        model.load_state_dict(_released_state(path))
        classifier = Classifier(model, ClassifierConfig(classes=CLASSES, backbone="convnext_tiny", size=224))
        classifier.bf16 = False  # its authors ran it in full width, and its threshold is theirs
        return cls(classifier, 0.5, f"{path.stem}@{sha256_of(path)[:8]}", bodies=False)

    def score(self, images: Sequence[np.ndarray], batch: int = 32) -> np.ndarray:
        """Calibrated probability of pathology for each H×W×3 uint8 RGB picture; float32, shape (n,).

        A picture in a wide white frame with labels and leader lines, as textbooks print it, is scored whole and without its
        frame; the higher score counts.
        """
        import numpy as np

        scores = np.array(self._probability(images, batch))
        bodies = {n: part for n, image in enumerate(images) if (part := body_of(image)) is not None} if self.bodies else {}
        if bodies:
            places = list(bodies)
            scores[places] = np.maximum(scores[places], self._probability(list(bodies.values()), batch))
        return scores

    def _probability(self, images: Sequence[np.ndarray], batch: int) -> np.ndarray:
        return self.classifier.predict(images, batch)[:, CLASSES.index("pathology")]


def body_of(picture: np.ndarray) -> np.ndarray | None:
    """The one large solid part of an H×W×3 uint8 RGB picture on white ground, without the labels and lines beside it; None where
    the picture has no such frame, or is no one part."""
    import cv2
    import numpy as np

    shrink = min(1.0, BODY_SIDE / max(picture.shape[:2]))
    small = cv2.resize(picture, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
    inked = (small.min(axis=2) < 225).astype(np.uint8)
    closed = cv2.morphologyEx(inked, cv2.MORPH_CLOSE, np.ones((9, 9), np.uint8))
    thick = max(5, int(0.06 * min(small.shape[:2])))  # thicker than letters and leader lines
    solid = cv2.morphologyEx(closed, cv2.MORPH_OPEN, np.ones((thick, thick), np.uint8))
    parts = cv2.connectedComponentsWithStats(solid)[2][1:].tolist()
    parts = sorted(parts, key=lambda part: -part[4])
    if not parts or sum(part[4] for part in parts[1:]) > 0.2 * parts[0][4]:
        return None
    x, y, width, height, area = parts[0]
    share = width * height / (small.shape[0] * small.shape[1])
    if not (0.12 <= share <= 0.9 and area >= 0.6 * width * height):
        return None
    return picture[int(y / shrink) : int((y + height) / shrink), int(x / shrink) : int((x + width) / shrink)]


def read_threshold(folder: Path) -> float:
    """The threshold that the training wrote; 0.5 without the file. Raises BadInput when it is no number in 0–1."""
    path = folder / "threshold.json"
    if not path.is_file():
        return 0.5
    try:
        value = float(json.loads(path.read_text(encoding="utf-8"))["threshold"])
    except (ValueError, TypeError, KeyError) as error:
        raise BadInput(f"{path} holds no threshold: {error}") from error
    if not 0 < value < 1:
        raise BadInput(f"{path}: the threshold must lie between 0 and 1, not at {value}.")
    return value


def build_released() -> torch.nn.Module:
    """The paper's classifier: timm `convnext_tiny` without head, then one linear layer to two classes."""
    import timm
    from torch import nn

    class Released(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model_global = timm.create_model("convnext_tiny", pretrained=False, num_classes=0)
            self.fc = nn.Linear(768, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.fc(self.model_global(x))
            return out

    return Released()


def _released_state(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise MissingWeights(f"{path} is not there; fetch jamessyx/convnext-pathology-classifier and give its file.")
    state = read_state(path)
    if "fc.weight" not in state:
        first = ", ".join(list(state)[:3])
        raise BadInput(f"{path} has no `model_global.*` and `fc`, but {first}: not the released select classifier.")
    return state
