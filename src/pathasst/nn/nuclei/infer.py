"""From a picture to nuclei: scaling, tiles, the network, gathering. Knows checkpoints, not stains or what a size means."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pathasst.core.errors import BadInput
from pathasst.core.hardware import device_of, has_fast_bfloat16
from pathasst.imaging.tiles import plan
from pathasst.nn.checkpoints import load_fp16, save_fp16
from pathasst.nn.fuse import fold
from pathasst.nn.nuclei.maps import gather
from pathasst.nn.nuclei.model import MAPS, NucleiNet
from pathasst.nn.nuclei.settings import NucleiSettings
from pathasst.nn.p2pnet.infer import resize

STRIDE = 16
MARGIN = 16
"""px of mirrored picture around it: at its very edge the network would see the padding's."""
LIMITS = 0.1, 8.0
"""Smallest and greatest factor that a picture is resized by."""
FEW = 8
"""Nuclei below which their size tells no scale."""
LOOKS = 3
"""Readings of the picture's middle from one guess of its scale."""


@dataclass(frozen=True, slots=True)
class Nuclei:
    """`labels` H×W int32 of the picture as given, nuclei numbered from 1; `scores` one each; `scale`: the factor used."""

    labels: np.ndarray
    scores: np.ndarray
    scale: float

    def __len__(self) -> int:
        return len(self.scores)


def save(model: NucleiNet, folder: Path, **notes: Any) -> Path:
    """Write `model.safetensors` (fp16, settings in its header); returns the file."""
    return save_fp16(model.state_dict(), model.settings.plain(), folder, **notes)


def load(folder: Path) -> NucleiNet:
    """The network of a checkpoint folder, in float32, ready to infer. Raises BadInput for a file that is none."""
    file = folder / "model.safetensors"
    settings, state = load_fp16(folder, "no nuclei checkpoint", "pathasst.nn.nuclei.infer.save")
    model = NucleiNet(NucleiSettings.of(settings, where=str(file)))
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise BadInput(f"{file} is no nuclei checkpoint: {str(error).splitlines()[0]}") from error
    return model.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


class Segmenter:
    """A network with its scale, thresholds and tiling. `tile` and `overlap` in px of the scaled picture."""

    def __init__(self, model: NucleiNet, tile: int = 1024, overlap: int = 96, device: str = "auto") -> None:
        self.device = torch.device(device_of(device))
        self.model, self.tile, self.overlap = model.eval().to(self.device), tile, overlap
        self.bf16 = has_fast_bfloat16(self.device.type)

    @classmethod
    def load(cls, folder: Path) -> Segmenter:
        """From a checkpoint's folder, its network folded. Raises BadInput."""
        return cls(fold(load(folder)))

    @property
    def settings(self) -> NucleiSettings:
        return self.model.settings

    def __call__(self, image: np.ndarray, um_per_px: float | None = None, scale: float | None = None) -> Nuclei:
        """The nuclei of an H×W×3 uint8 RGB picture.

        `um_per_px` brings the picture to the network's scale; so does `scale`, the factor itself. With neither, the scale is read
        from the size of the nuclei.
        """
        factor = scale or (um_per_px / self.settings.um_per_px if um_per_px else self.estimate_scale(image))
        factor = float(np.clip(factor, *LIMITS))
        maps = self.maps(resize(image, factor))
        return nuclei_of(maps, image.shape[:2], factor, self.settings)

    @torch.inference_mode()
    def maps(self, image: np.ndarray) -> np.ndarray:
        """The 4×H×W maps of a picture at the network's scale; foreground and centre as probabilities."""
        height, width = image.shape[:2]
        out = np.empty((MAPS, height, width), np.float32)
        for tile in plan(height, width, self.tile, self.overlap):
            x1, y1, x2, y2 = tile.core
            read = self._read(image[tile.window])
            out[:, y1:y2, x1:x2] = read[:, y1 - tile.y : y2 - tile.y, x1 - tile.x : x2 - tile.x]
        return out

    def _read(self, image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        below, right = MARGIN + (-height - 2 * MARGIN) % STRIDE, MARGIN + (-width - 2 * MARGIN) % STRIDE
        padded = np.pad(image, ((MARGIN, below), (MARGIN, right), (0, 0)), mode="symmetric")
        tensor = torch.from_numpy(padded.transpose(2, 0, 1)[None].copy()).to(self.device).float().div_(255)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            output = self.model(tensor.contiguous(memory_format=torch.channels_last))
        output = output[0, :, MARGIN : MARGIN + height, MARGIN : MARGIN + width].float()
        output[:2] = output[:2].sigmoid()
        return output.cpu().numpy()

    def estimate_scale(self, image: np.ndarray) -> float:
        """The factor at which the picture's median nucleus has the size that the network was trained on; that of a 40× picture
        where fewer than FEW nuclei are seen."""
        middle = _middle(image)
        target_area = self.settings.nucleus / self.settings.um_per_px**2
        first = 0.25 / self.settings.um_per_px
        best, most = first, FEW - 1
        for start in (first, 2 * first, first / 2):
            factor = start
            for _ in range(LOOKS):
                areas = self._areas(resize(middle, float(np.clip(factor, *LIMITS))))
                if len(areas) < FEW:
                    break
                ratio = float(np.sqrt(target_area / np.median(areas)))
                if len(areas) > most:
                    best, most = factor * ratio, len(areas)
                factor *= ratio
                if abs(np.log(ratio)) < np.log(1.15):
                    return float(np.clip(factor, *LIMITS))
        return float(np.clip(best, *LIMITS))

    def _areas(self, image: np.ndarray) -> np.ndarray:
        s = self.settings
        labels, _ = gather(self.maps(image), s.min_foreground, s.min_centre, s.min_area / s.um_per_px**2)
        return np.bincount(labels.ravel())[1:]


def _middle(image: np.ndarray, side: int = 640) -> np.ndarray:
    """At most `side` px of the middle."""
    top, left = max(image.shape[0] - side, 0) // 2, max(image.shape[1] - side, 0) // 2
    return image[top : top + side, left : left + side]


def nuclei_of(maps: np.ndarray, shape: tuple[int, int], factor: float, settings: NucleiSettings) -> Nuclei:
    """The nuclei of maps at the network's scale, drawn in a picture of `shape` (height, width)."""
    import cv2

    labels, scores = gather(maps, settings.min_foreground, settings.min_centre, settings.min_area / settings.um_per_px**2)
    if labels.shape != shape:
        # Numbers grown by a pixel, and the edge of the smoothly enlarged foreground: no stairs.
        size = shape[1], shape[0]
        dilated = np.where(labels > 0, labels, cv2.dilate(labels.astype(np.float32), np.ones((3, 3), np.uint8)).astype(np.int32))
        numbers = cv2.resize(dilated.astype(np.float32), size, interpolation=cv2.INTER_NEAREST_EXACT).astype(np.int32)
        smooth = cv2.resize(maps[0], size, interpolation=cv2.INTER_LINEAR)
        labels = np.where(smooth >= settings.min_foreground, numbers, 0)
    return Nuclei(labels, scores, factor)
