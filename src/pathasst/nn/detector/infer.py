"""From pictures to boxes: scaling, tiles, batches, the network, suppression. Knows checkpoints, not what the boxes mean."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from pathasst.core import progress
from pathasst.core.errors import BadInput, MissingWeights
from pathasst.core.hardware import has_fast_bfloat16
from pathasst.imaging.tiles import Tile, plan
from pathasst.nn.detector.boxes import Boxes, fuse, suppress
from pathasst.nn.detector.settings import DetectorSettings

if TYPE_CHECKING:
    import torch

    from pathasst.nn.detector.nets import DetectorNetwork
    from pathasst.nn.detector.second_stage import SecondStage

STRIDE = 32  # pictures are padded to a multiple of it
GREY = 114  # of the padding, as in training
LARGEST_SCALE = 8.0
CANDIDATES = 1000  # boxes of a tile, best first, that go into suppression


class Reader(Protocol):
    """A network as `Detector` sees it, whatever runs it: torch (`TorchReader`) or ONNX (`onnx.OnnxReader`)."""

    def __call__(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pixels b×3×h×w uint8 RGB → boxes b×n×4 xyxy px and scores b×n×classes, float32, before suppression."""
        ...


class TorchReader:
    """A torch network, in bfloat16 where the machine multiplies it in hardware."""

    def __init__(self, network: DetectorNetwork) -> None:
        self.network = network.eval()
        self.device = next(network.parameters()).device
        self.bf16 = has_fast_bfloat16(self.device.type)

    def __call__(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        import torch

        x = torch.from_numpy(pixels).to(self.device).float().contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
                maps = self.network(x)
            boxes, scores = self.network.decode(maps)
        return boxes.cpu().numpy(), scores.cpu().numpy()


class Detector:
    """A reader with its settings. Loaded once, used for any number of pictures."""

    def __init__(
        self, reader: Reader, settings: DetectorSettings, batch: int = 4, second_stage: SecondStage | None = None
    ) -> None:
        self.reader, self.settings, self.batch, self.second_stage = reader, settings, batch, second_stage

    @staticmethod
    def load(folder: Path) -> Detector:
        """From a folder with `config.json` and `model.safetensors`. Raises MissingWeights, BadInput."""
        import torch

        from pathasst.nn.detector.nets import Lite0
        from pathasst.nn.detector.second_stage import FOLDER, SecondStage
        from pathasst.nn.fuse import fold

        network, settings = load(folder)
        if isinstance(network, Lite0):
            fold(network.body)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        return Detector(TorchReader(network.to(device)), settings, second_stage=SecondStage.load(folder / FOLDER, settings))

    def detect(
        self, pictures: Sequence[np.ndarray], *, min_score: float | None = None, scale: float | None = None, most: int = 1000
    ) -> list[Boxes]:
        """Boxes of each H×W×3 uint8 RGB picture in its own px, best first.

        Args:
            pictures: of any sizes.
            min_score: least score; None for the settings' own.
            scale: factor to resize by before looking; None for the settings' own (which may be: fit the whole picture).
            most: boxes a picture at most.

        """
        least = self.settings.min_score if min_score is None else min_score
        floor = self.second_stage.first_score(least) if self.second_stage else least
        jobs: list[tuple[int, Tile, np.ndarray]] = []
        shapes = []
        for number, picture in enumerate(pictures):
            resized = resize(picture, self._factor(picture.shape, scale))
            shapes.append(resized.shape)
            tiles = plan(resized.shape[0], resized.shape[1], self.settings.size, self.settings.overlap)
            jobs += [(number, tile, resized[tile.window]) for tile in tiles]
        parts: list[list[Boxes]] = [[] for _ in pictures]
        for start in range(0, len(jobs), self.batch):
            some = jobs[start : start + self.batch]
            progress.step(start, len(jobs))
            for (number, tile, _), boxes in zip(some, self._read([j[2] for j in some], floor), strict=True):
                parts[number].append(_own(boxes, tile))
        found = [
            _back(self._join(boxes, most), shape, picture.shape)
            for boxes, shape, picture in zip(parts, shapes, pictures, strict=True)
        ]
        if not self.second_stage:
            return found
        return [self.second_stage(picture, boxes).above(least) for picture, boxes in zip(pictures, found, strict=True)]

    def _join(self, parts: list[Boxes], most: int) -> Boxes:
        """A picture's boxes out of its tiles', without the classes that are not reported."""
        boxes = suppress(Boxes.join(parts), self.settings.nms, self.settings.across_classes)
        return boxes.take(np.isin(boxes.classes, self.settings.reported)).first(most)

    def _factor(self, shape: tuple[int, ...], scale: float | None) -> float:
        factor = scale or self.settings.scale or self.settings.size / max(shape[:2])
        return float(np.clip(factor, STRIDE / max(shape[:2]), LARGEST_SCALE))

    def _read(self, tiles: Sequence[np.ndarray], floor: float) -> list[Boxes]:
        """Boxes of some tiles in their own px, fused from mirrored readings and suppressed within each tile."""
        count = self.settings.views
        views = [self._view(tiles, v, floor if count == 1 else floor / 4) for v in range(count)]
        fused = [fuse(list(some), self.settings.nms, self.settings.across_classes) for some in zip(*views, strict=True)]
        return [boxes.above(floor) for boxes in fused]

    def _view(self, tiles: Sequence[np.ndarray], view: int, floor: float) -> list[Boxes]:
        """All boxes that one reading gives. Bit 0 of `view` mirrors left–right, bit 1 top–bottom."""
        height, width = (-(-max(t.shape[i] for t in tiles) // STRIDE) * STRIDE for i in (0, 1))
        pixels = np.full((len(tiles), 3, height, width), GREY, np.uint8)
        across, down = -1 if view & 1 else 1, -1 if view & 2 else 1
        for place, tile in zip(pixels, tiles, strict=True):
            place[:, : tile.shape[0], : tile.shape[1]] = tile[::down, ::across].transpose(2, 0, 1)
        boxes, scores = self.reader(pixels)
        views = []
        for tile, xyxy, score in zip(tiles, boxes, scores, strict=True):
            # A place is of one class, its best of those that are reported; what looks like an ignored one scores low in them.
            score = score[:, self.settings.reported]
            best, keep = np.array(self.settings.reported)[score.argmax(1)], score.max(1) >= floor
            size = np.array([tile.shape[1], tile.shape[0]] * 2, np.float32)
            upright = np.clip(xyxy[keep], 0, size).astype(np.float32)
            if across < 0:
                upright[:, [0, 2]] = size[0] - upright[:, [2, 0]]
            if down < 0:
                upright[:, [1, 3]] = size[1] - upright[:, [3, 1]]
            some = Boxes(upright, score.max(1)[keep], best[keep].astype(np.int64))
            some = some.take((upright[:, 2:] - upright[:, :2] > 1).all(1))
            views.append(some.take(np.argsort(-some.scores, kind="stable")[:CANDIDATES]))
        return views


def _own(boxes: Boxes, tile: Tile) -> Boxes:
    """A tile's boxes in px of the resized picture: those whose centre lies in its core, so that none is seen twice or cut."""
    placed = boxes.xyxy + np.array([tile.x, tile.y] * 2, np.float32)
    centre = (placed[:, :2] + placed[:, 2:]) / 2
    x1, y1, x2, y2 = tile.core
    inside = (centre >= [x1, y1]).all(1) & (centre <= [x2, y2]).all(1)  # two that meet at an edge are left to suppression
    return Boxes(placed, boxes.scores, boxes.classes).take(inside)


def _back(boxes: Boxes, shape_read: tuple[int, ...], shape: tuple[int, ...]) -> Boxes:
    factor = np.array([shape[1] / shape_read[1], shape[0] / shape_read[0]] * 2, np.float32)
    return Boxes(boxes.xyxy * factor, boxes.scores, boxes.classes)


def resize(picture: np.ndarray, factor: float) -> np.ndarray:
    """The picture enlarged or reduced; each side at least 1 px."""
    import cv2

    size = max(round(picture.shape[1] * factor), 1), max(round(picture.shape[0] * factor), 1)
    if size == (picture.shape[1], picture.shape[0]):
        return picture
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR))


def save(network: DetectorNetwork, settings: DetectorSettings, folder: Path, **notes: Any) -> None:
    """Write `model.safetensors` (fp16, without what equals the settings' `base`) and `config.json` (settings, and `notes`)."""
    from copy import deepcopy

    import torch
    from safetensors.torch import load_file, save_file, save_model

    folder.mkdir(parents=True, exist_ok=True)
    file, base = folder / "model.safetensors", _base(settings)
    plain = deepcopy(network).half().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    save_model(plain, str(file))  # which writes tensors that several levels share once
    if base:
        own = {k: v for k, v in load_file(file).items() if k not in base or not torch.equal(v, base[k].to(v.dtype).cpu())}
        save_file(own, file, metadata={"format": "pt"})
    content = {"settings": settings.plain(), **notes}
    (folder / "config.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def load(folder: Path) -> tuple[DetectorNetwork, DetectorSettings]:
    """Network (float32, evaluation mode, on the CPU) and settings of a folder.

    Raises BadInput, and MissingWeights for the folder's files or those of its `base`.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_model

    from pathasst.nn.detector.nets import build, channels_last

    file = folder / "model.safetensors"
    if not file.is_file() or not (folder / "config.json").is_file():
        raise MissingWeights(f"{folder} holds no detector (config.json and model.safetensors, by `pathasst train detector`).")
    try:
        content = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        settings = DetectorSettings.of(content["settings"], where=str(folder / "config.json"))
        network, base = build(settings), _base(settings)
        network.load_state_dict(base, strict=False)
        missing, unknown = load_model(network, str(file), strict=False)
        if wrong := [*(set(missing) - set(base)), *unknown]:
            raise KeyError(f"{len(wrong)} tensors missing or unknown, such as {wrong[0]}")
    except (SafetensorError, RuntimeError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise BadInput(f"{folder} is not a detector of this version: {error}") from error
    return channels_last(network).eval(), settings


def _base(settings: DetectorSettings) -> dict[str, torch.Tensor]:
    """The tensors that a file may leave out, by the network's names, rounded as the file would have held them."""
    from pathasst.nn.pretrained import left_out

    return {f"body.{k}": v for k, v in left_out(settings.base).items()}
