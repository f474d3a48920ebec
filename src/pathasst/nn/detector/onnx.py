"""Detectors as ONNX: writing ours, and running ours or a foreign YOLOv7 (the paper's sub-figure detector, never unpickled)."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pathasst.core.errors import BadInput
from pathasst.nn.detector.infer import GREY, Detector, load
from pathasst.nn.detector.second_stage import FOLDER, SecondStage
from pathasst.nn.detector.settings import DetectorSettings
from pathasst.nn.onnx import open_foreign

if TYPE_CHECKING:
    import torch


def export(folder: Path, file: Path, opset: int = 17) -> None:
    """Write a detector's folder as `file` (.onnx) with its settings in `<file>.json` beside it.

    Input `pixels` b×3×h×w float32 0…255 RGB (h, w multiples of 32); outputs `boxes` b×n×4 xyxy px and `scores` b×n×classes.
    """
    import torch

    network, settings = load(folder)

    class WithBoxes(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return self.network.decode(self.network(pixels))

    free = {"pixels": {0: "b", 2: "h", 3: "w"}, "boxes": {0: "b", 1: "n"}, "scores": {0: "b", 1: "n"}}
    names: dict[str, Any] = {"input_names": ["pixels"], "output_names": ["boxes", "scores"], "dynamic_axes": free}
    file.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the newer exporter needs two packages more; this one is enough for these layers
        torch.onnx.export(WithBoxes().eval(), (torch.zeros(1, 3, 64, 96),), str(file), dynamo=False, opset_version=opset, **names)
    if stage := SecondStage.load(folder / FOLDER, settings):
        stage.head.save(file.with_suffix("." + FOLDER))
    file.with_suffix(".onnx.json").write_text(json.dumps({"settings": settings.plain()}, indent=1) + "\n", encoding="utf-8")


def load_onnx(file: Path, settings: DetectorSettings | None = None, threads: int = 0) -> Detector:
    """A detector from ONNX. `settings` for a foreign one; ours lie beside the file. `threads` 0: all cores.

    Raises MissingWeights, BadInput.
    """
    beside = file.with_suffix(".onnx.json")
    if settings is None:
        if not beside.is_file():
            raise BadInput(f"{file} has no {beside.name} beside it: give its settings (classes, size …).")
        settings = DetectorSettings.of(json.loads(beside.read_text(encoding="utf-8"))["settings"], where=str(beside))
    stage = SecondStage.load(file.with_suffix("." + FOLDER), settings)
    return Detector(OnnxReader(file, len(settings.classes), threads), settings, second_stage=stage)


class OnnxReader:
    """Runs an ONNX detector. Understood are ours, YOLOv7's rows (centre, size, objectness, classes; b×n×(5+c)), and those of its
    export with suppression (picture, x1, y1, x2, y2, class, score; n×7). Foreign ones take pixels of 0…1.
    """

    def __init__(self, file: Path, classes: int, threads: int = 0) -> None:
        self.session = open_foreign(file, threads)
        self.classes = classes
        first_input = self.session.get_inputs()[0]
        self.name, self.shape = first_input.name, first_input.shape
        self.own = [o.name for o in self.session.get_outputs()] == ["boxes", "scores"]

    def __call__(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pixels b×3×h×w uint8 → boxes b×n×4, scores b×n×classes. A model of fixed size gets the pixels on grey ground."""
        fixed = [v for v in self.shape[2:] if isinstance(v, int)]
        if len(fixed) == 2:
            if pixels.shape[2] > fixed[0] or pixels.shape[3] > fixed[1]:
                raise BadInput(f"the ONNX model takes {fixed[1]}×{fixed[0]} px; set `size` of its settings to that.")
            pad = [(0, 0), (0, 0), (0, fixed[0] - pixels.shape[2]), (0, fixed[1] - pixels.shape[3])]
            pixels = np.pad(pixels, pad, constant_values=GREY)
        x = pixels.astype(np.float32)
        if self.own:
            boxes, scores = self.session.run(None, {self.name: x})
            return boxes, scores
        each = [self._foreign(one[None] / 255) for one in x]  # many exports are of batch 1
        most = max(len(b) for b, _ in each)
        boxes, scores = (np.stack([np.pad(e[i], ((0, most - len(e[i])), (0, 0))) for e in each]) for i in (0, 1))
        return boxes, scores

    def _foreign(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rows = np.asarray(self.session.run(None, {self.name: x})[0], np.float32)
        if rows.ndim == 2 and rows.shape[1] == 7:
            scores = (np.arange(self.classes) == rows[:, 5:6]) * rows[:, 6:7]
            return rows[:, 1:5], scores.astype(np.float32)
        rows = rows.reshape(-1, rows.shape[-1])
        if rows.shape[1] not in (5, 5 + self.classes):
            raise BadInput(
                f"the ONNX model gives rows of {rows.shape[1]} numbers; with {self.classes} classes it must be 5 more."
            )
        half = rows[:, 2:4] / 2
        scores = rows[:, 4:5] * rows[:, 5:] if rows.shape[1] > 5 else rows[:, 4:5]
        return np.concatenate([rows[:, :2] - half, rows[:, :2] + half], 1), scores
