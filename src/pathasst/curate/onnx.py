"""Classifiers and detectors trained here, run by ONNX Runtime: on a CPU it runs small networks twice as fast as torch, and a
worker that imports no torch starts in a second.

Knows the folders of `pathasst.nn.classifier` and `pathasst.nn.detector`. Each is written as ONNX once, to the user's cache
(`pathasst.nn.onnx`).
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from pathasst.nn.onnx import cached_onnx, open_session

if TYPE_CHECKING:
    import numpy as np
    from onnxruntime import InferenceSession

    from pathasst.nn.classifier import ClassifierConfig
    from pathasst.nn.detector.infer import Detector


class OnnxClassifier:
    """A classifier's folder, run by ONNX Runtime on one thread. Gives what `pathasst.nn.classifier.Classifier` gives."""

    def __init__(self, folder: Path) -> None:
        """Raises MissingWeights, BadInput as `Classifier.load`."""
        from pathasst.nn.classifier import ClassifierConfig

        self.config: ClassifierConfig = ClassifierConfig.load_from(folder)
        self.file = cached_onnx(folder, write_classifier)

    @cached_property
    def session(self) -> InferenceSession:
        """Opened on first use: the process that only starts workers needs none."""
        return open_session(self.file)

    @property
    def classes(self) -> tuple[str, ...]:
        return self.config.classes

    def predict(self, pictures: Sequence[np.ndarray], batch: int = 32) -> np.ndarray:
        """Calibrated probabilities, float32 [n, classes], of H×W×3 uint8 RGB pictures of any sizes."""
        import numpy as np

        from pathasst.nn.classifier.augment import squash

        outputs = [np.zeros((0, len(self.classes)), np.float32)]
        for start in range(0, len(pictures), batch):
            pixels = np.stack([squash(p, self.config.size) for p in pictures[start : start + batch]])
            outputs += self.session.run(None, {"pixels": pixels})
        return np.concatenate(outputs)


def detector(folder: Path) -> Detector:
    """A detector's folder: the small network by ONNX Runtime, YOLOv7 by torch, on a GPU where there is one.

    Raises MissingWeights, BadInput as `Detector.load`.
    """
    from pathasst.nn.detector.infer import Detector
    from pathasst.nn.detector.onnx import export, load_onnx

    return load_onnx(cached_onnx(folder, export), threads=1) if _is_small(folder) else Detector.load(folder)


def _is_small(folder: Path) -> bool:
    try:
        settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))["settings"]
        return (folder / "model.safetensors").is_file() and settings["architecture"] == "lite0"
    except (OSError, ValueError, KeyError, TypeError):
        return False  # the loader of torch says what is wrong


def write_classifier(folder: Path, file: Path) -> None:
    """Input `pixels` b×size×size×3 uint8 RGB, output calibrated probabilities b×classes. Raises as `Classifier.load`."""
    import torch

    from pathasst.nn.classifier import Classifier
    from pathasst.nn.classifier.model import statistics

    classifier = Classifier.load(folder)
    config = classifier.config
    mean, deviation = (torch.tensor(v).view(1, 3, 1, 1) * 255 for v in statistics(config.backbone))

    class WithNormalisation(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = classifier.network

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            x = (pixels.permute(0, 3, 1, 2).float() - mean) / deviation
            probabilities: torch.Tensor = (self.network(x) / config.temperature).softmax(1)
            return probabilities

    example = torch.zeros(1, config.size, config.size, 3, dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the newer exporter needs two packages more; this one is enough for these layers
        torch.onnx.export(
            WithNormalisation().eval(), (example,), str(file), dynamo=False, opset_version=17,
            input_names=["pixels"], output_names=["probabilities"], dynamic_axes={"pixels": {0: "b"}, "probabilities": {0: "b"}},
        )  # fmt: skip
