"""From a picture to cells: scaling, tiles, the network, point suppression. Knows checkpoints, not stains or scores' meaning."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pathasst.core import progress
from pathasst.core.hardware import device_of, has_fast_bfloat16
from pathasst.imaging.tiles import merge_points, plan
from pathasst.nn.checkpoints import load_fp16, save_fp16
from pathasst.nn.fuse import fold
from pathasst.nn.p2pnet.model import P2PNet
from pathasst.nn.p2pnet.settings import P2PNetSettings

SUPPRESSION = 12.0
"""px within which the best-scored point stays alone (paper: 12 px)."""
STRIDE = 32  # pictures are padded to a multiple of it


@dataclass(frozen=True, slots=True)
class Cells:
    """Detected cells, best first. `points` P×2 float32 px (pixel centres at +0.5), `classes` P int64, `scores` P float32."""

    points: np.ndarray
    classes: np.ndarray
    scores: np.ndarray

    def __len__(self) -> int:
        return len(self.points)

    def take(self, rows: np.ndarray) -> Cells:
        """The cells at some indices or under a boolean mask."""
        return Cells(self.points[rows], self.classes[rows], self.scores[rows])


def suppress(points: np.ndarray, scores: np.ndarray, radius: float = SUPPRESSION) -> np.ndarray:
    """Indices of the points that stay, best first: a point closer than `radius` px to a better one goes, whatever its class."""
    from scipy.spatial import cKDTree

    if not len(points):
        return np.empty(0, np.int64)
    near = cKDTree(points).query_ball_point(points, radius * (1 - 1e-6))
    removed = np.zeros(len(points), bool)
    rows = []
    for i in np.argsort(-scores, kind="stable"):
        if not removed[i]:
            rows.append(int(i))
            removed[near[i]] = True
    return np.array(rows, np.int64)


def save(model: P2PNet, folder: Path, **notes: Any) -> Path:
    """Write `model.safetensors` (fp16, settings in its header); returns the file."""
    return save_fp16(model.state_dict(), model.settings.plain(), folder, **notes)


def load(folder: Path) -> P2PNet:
    """The network of a checkpoint folder, in float32, ready to infer. Raises BadInput for a file that is none."""
    file = folder / "model.safetensors"
    settings, state = load_fp16(folder, "not a P2PNet checkpoint", "pathasst.nn.p2pnet.infer.save")
    model = P2PNet(P2PNetSettings.of(settings, where=str(file)))
    model.load_state_dict(state)
    return model.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


class CellDetector:
    """A network with its scale, thresholds and tiling. `tile` and `overlap` in px of the scaled picture."""

    def __init__(self, model: P2PNet, tile: int = 1024, overlap: int = 96, device: str = "auto") -> None:
        self.device = torch.device(device_of(device))
        self.model, self.tile, self.overlap = model.eval().to(self.device), tile, overlap
        # Where hardware multiplies bfloat16 it is more than twice as fast; heads and points stay in float32.
        self.bf16 = has_fast_bfloat16(self.device.type)

    @classmethod
    def load(cls, folder: Path) -> CellDetector:
        """From a checkpoint's folder, its network folded. Raises BadInput."""
        model = load(folder)
        fold(model.backbone)
        return cls(model)

    @property
    def settings(self) -> P2PNetSettings:
        return self.model.settings

    def __call__(
        self, image: np.ndarray, scale: float = 1.0, min_score: float | None = None, radius: float = SUPPRESSION
    ) -> Cells:
        """Cells of an H×W×3 uint8 RGB picture, in its own px.

        `scale` resizes the picture before the network sees it; `radius` is in px of the resized picture. Classes that the model
        was told to ignore are left out.
        """
        resized = resize(image, scale)
        floors = np.broadcast_to(self.settings.min_score if min_score is None else min_score, len(self.settings.classes))
        tiles = plan(resized.shape[0], resized.shape[1], self.tile, self.overlap)
        parts = []
        for n, tile in enumerate(tiles, 1):
            parts.append((tile, self._detect(resized[tile.window], floors)))
            progress.step(n, len(tiles))
        points, classes, scores = merge_points([(t, (c.points, c.classes, c.scores)) for t, c in parts])
        cells = Cells(points, classes, scores)
        cells = cells.take(suppress(cells.points, cells.scores, radius))
        ignored = [self.settings.classes.index(name) for name in self.settings.ignored]
        cells = cells.take(~np.isin(cells.classes, ignored))
        # Back to px of the picture as given: rounding of the size makes the two axes' factors differ slightly.
        back = np.array([image.shape[1] / resized.shape[1], image.shape[0] / resized.shape[0]], np.float32)
        return Cells(cells.points * back, cells.classes, cells.scores)

    def _detect(self, image: np.ndarray, floors: np.ndarray) -> Cells:
        """Cells of one tile, fused from `views` mirrored readings of it. `floors`: the least score of each class."""
        views, floor = self.settings.views, float(floors.min())
        read = [self._read(image, v, floor if views == 1 else floor / 4) for v in range(views)]
        points, probabilities = (np.concatenate(part) for part in zip(*read, strict=True))
        if views > 1:
            which = np.repeat(np.arange(views), [len(p) for p, _ in read])
            points, probabilities = fuse(points, probabilities, which, views)
        classes, scores = probabilities.argmax(1), probabilities.max(1, initial=0)
        keep = scores >= floors[classes]
        return Cells(points[keep], classes[keep], scores[keep])

    @torch.inference_mode()
    def _read(self, image: np.ndarray, view: int, floor: float) -> tuple[np.ndarray, np.ndarray]:
        """Points P×2 px and probabilities P×C of one view: bit 0 mirrors left–right, bit 1 top–bottom."""
        height, width = image.shape[:2]
        padded = np.pad(
            image,
            ((0, -height % STRIDE), (0, -width % STRIDE), (0, 0)),
            mode="reflect" if min(height, width) > STRIDE else "edge",
        )
        mirrored = [axis for bit, axis in ((1, -1), (2, -2)) if view & bit]
        tensor = torch.from_numpy(padded.transpose(2, 0, 1)[None].copy()).to(self.device).float().div_(255).flip(mirrored)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            output = self.model(tensor.contiguous(memory_format=torch.channels_last))
        probabilities, points = output.logits[0].softmax(-1)[:, :-1], output.points[0]
        for axis in mirrored:
            points[:, -1 - axis] = tensor.shape[axis] - points[:, -1 - axis]
        inside = ((points > 0) & (points < points.new_tensor([width, height]))).all(-1)
        keep = inside & (probabilities.max(-1).values >= floor)
        return points[keep].cpu().numpy(), probabilities[keep].cpu().numpy()


def fuse(
    points: np.ndarray, probabilities: np.ndarray, which: np.ndarray, views: int, radius: float = SUPPRESSION
) -> tuple[np.ndarray, np.ndarray]:
    """One cell out of what several views say about it: mean probabilities, mean place weighted by them.

    `points` P×2 px, `probabilities` P×C, `which` P: the view of each. A view counts with its best point within `radius` px;
    one that saw nothing there counts as 0. Returns K×2 and K×C.
    """
    from scipy.spatial import cKDTree

    best = probabilities.max(1, initial=0)
    cell, cells = np.full(len(points), -1), 0
    near = cKDTree(points).query_ball_point(points, radius * (1 - 1e-6)) if len(points) else []
    for i in np.argsort(-best, kind="stable"):
        if cell[i] < 0:
            members = np.array(near[i])
            cell[members[cell[members] < 0]] = cells
            cells += 1
    order = np.lexsort((-best, which, cell))
    first = np.ones(len(points), bool)
    first[1:] = (np.diff(cell[order]) != 0) | (np.diff(which[order]) != 0)
    strongest = order[first]
    member = np.eye(cells, dtype=np.float32)[:, cell[strongest]]
    weights = member * best[strongest]
    places = weights @ points[strongest] / weights.sum(1, keepdims=True)
    return places.reshape(-1, 2), (member @ probabilities[strongest] / views).reshape(-1, probabilities.shape[1])


def resize(image: np.ndarray, scale: float) -> np.ndarray:
    """The picture resized by `scale`; at least 1 px a side."""
    if scale == 1:
        return image
    import cv2

    size = max(round(image.shape[1] * scale), 1), max(round(image.shape[0] * scale), 1)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC))
