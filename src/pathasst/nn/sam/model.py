"""SAM: the costly embedding of a picture once, cheap masks for each prompt after it.

Knows pictures and prompts, not what is in them. Two networks: MobileSAM (Zhang et al. 2023) in libreyolo's port (Apache-2.0), the
authors' file loaded with `weights_only=True`, and any SAM (Kirillov et al. 2023) in transformers' layout. Points and boxes are px
of the picture, pixel centres at +0.5.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from pathasst.core import weights
from pathasst.core.errors import BadInput
from pathasst.core.hardware import has_fast_bfloat16

SIDE = 1024  # px of the square that the network sees
LOW = 256  # px of the square of mask logits that it gives
LARGEST = 0.9  # share of the picture above which a mask is the picture, not an object in it
MEAN = torch.tensor([123.675, 116.28, 103.53]).view(1, 3, 1, 1)
DEVIATION = torch.tensor([58.395, 57.12, 57.375]).view(1, 3, 1, 1)
DECODER = "mask_decoder.safetensors"
"""A mask decoder that was tuned (`sam_train`); the name of its network stands in its header."""


@dataclass(frozen=True, slots=True)
class ImageEmbedding:
    """A picture as the decoder needs it. `features` 1×256×64×64; `height`, `width` of the picture; `inner` = size inside SIDE."""

    features: torch.Tensor
    height: int
    width: int
    inner: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Mask:
    """One object. `pixels` h×w bool, cut to what is true, lie at `x`, `y` of the picture; `score`: the IoU that is expected."""

    x: int
    y: int
    pixels: np.ndarray
    score: float

    @property
    def box(self) -> tuple[int, int, int, int]:
        """x1 y1 x2 y2 px, x2 and y2 exclusive."""
        return self.x, self.y, self.x + self.pixels.shape[1], self.y + self.pixels.shape[0]

    def shift(self, x: int, y: int) -> Mask:
        """The same, of a picture that holds this one's at x, y."""
        return replace(self, x=self.x + x, y=self.y + y)

    def full_mask(self, height: int, width: int) -> np.ndarray:
        """H×W bool."""
        full = np.zeros((height, width), bool)
        x1, y1, x2, y2 = self.box
        full[y1:y2, x1:x2] = self.pixels
        return full


def load_network(folder: Path) -> tuple[str, Any]:
    """Name and network in a folder: MobileSAM's `mobile_sam.pt`, a SAM as transformers keeps it, or a tuned decoder of either.

    Raises BadInput for files that are none of these, MissingWeights where a decoder's network is not here.
    """
    file = folder / "mobile_sam.pt"
    if (folder / DECODER).is_file():
        return _tuned(folder / DECODER)
    try:
        if file.is_file():
            from libreyolo.models.mobilesam.model import MobileSAMNetwork

            network: Any = MobileSAMNetwork()
            network.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
            return "MobileSAM", network.eval()
        from transformers import SamModel

        device = "cuda" if torch.cuda.is_available() else "cpu"
        return "SAM", weights.load_quietly(SamModel, folder, use_safetensors=True).to(device).eval()
    except (OSError, RuntimeError, ValueError) as error:
        raise BadInput(f"{folder} holds neither MobileSAM nor a SAM of transformers: {str(error)[:200]}") from error


def _tuned(file: Path) -> tuple[str, Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "pt") as content:
            base = (content.metadata() or {})["base"]
            state = {key: content.get_tensor(key) for key in content.keys()}  # noqa: SIM118 - no mapping
        name, network = load_network(weights.path(base))
        network.mask_decoder.load_state_dict(state)
    except (SafetensorError, OSError, KeyError, RuntimeError) as error:
        raise BadInput(f"{file} is no mask decoder of a SAM: {str(error)[:200]}") from error
    return name, network


class Sam:
    """`set_image` once, `predict` often; the last few embeddings are kept by content, so the same picture costs once.

    `folder`: see `load_network`; None: MobileSAM.
    """

    def __init__(self, folder: Path | None = None, cache_size: int = 4) -> None:
        self.name, self.network = load_network(folder or weights.path("mobilesam"))
        self.device = next(self.network.parameters()).device
        # Where it is multiplied in hardware, bf16 takes half the time; masks stay the same but for a few edges.
        self.bf16 = has_fast_bfloat16(self.device.type)
        self._cache_size, self._embeddings = cache_size, OrderedDict[bytes, ImageEmbedding]()

    @torch.inference_mode()
    def set_image(self, image: np.ndarray) -> ImageEmbedding:
        """The embedding of an H×W×3 uint8 RGB picture; computed when it is not among the kept ones."""
        import cv2

        key = hashlib.blake2b(np.ascontiguousarray(image).data, person=str(image.shape).encode()[:16]).digest()
        if key in self._embeddings:
            self._embeddings.move_to_end(key)
            return self._embeddings[key]
        height, width = image.shape[:2]
        scale = SIDE / max(height, width)
        size = max(int(height * scale + 0.5), 1), max(int(width * scale + 0.5), 1)
        small = cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        pixels = torch.from_numpy(small.transpose(2, 0, 1)[None].copy()).float().to(self.device)
        if self.name == "SAM":  # MobileSAM's port does this by itself
            pixels = F.pad((pixels - MEAN.to(pixels)) / DEVIATION.to(pixels), (0, SIDE - size[1], 0, SIDE - size[0]))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            features = self.network.get_image_embeddings(pixels)
        embedding = ImageEmbedding(features.float(), height, width, size)
        self._embeddings[key] = embedding
        while len(self._embeddings) > self._cache_size:
            self._embeddings.popitem(last=False)
        return embedding

    @torch.inference_mode()
    def predict(
        self,
        embedding: ImageEmbedding,
        points: np.ndarray | None = None,
        inside: np.ndarray | None = None,
        box: np.ndarray | None = None,
    ) -> list[Mask]:
        """The three nested masks of one prompt (one, for a box or several points), best first; empty ones are left out.

        `points` P×2 px, `inside` P bool (False = outside of the object), `box` x1 y1 x2 y2 px. Raises BadInput without a prompt.
        """
        if box is None and (points is None or not len(points)):
            raise BadInput("a mask needs points or a box")
        several = box is None and points is not None and len(points) == 1
        place = None if points is None or not len(points) else self.place(embedding, points)[None]
        labels = None if place is None else torch.as_tensor(np.ones(len(place[0])) if inside is None else inside).long()[None]
        corners = None if box is None else self.place(embedding, np.asarray(box, np.float32).reshape(2, 2)).reshape(1, 4)
        logits, scores = self.decode(embedding, place, corners, several, labels)
        order = scores[0].argsort(descending=True)
        return self._upsample(embedding, logits[0, order], scores[0, order])

    @torch.inference_mode()
    def everything(
        self,
        embedding: ImageEmbedding,
        side: int = 12,
        min_score: float = 0.8,
        min_stability: float = 0.9,
        max_overlap: float = 0.6,
    ) -> list[Mask]:
        """Masks of all that a `side`×`side` grid of points finds, without near-duplicates, best first (SAM, appendix B).

        Masks that the network is unsure of, that change with the threshold, or that cover nearly all of the picture are left out.
        """
        grid = (np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1).reshape(-1, 2) + 0.5) / side
        points = grid * [embedding.width, embedding.height]
        masks, sure = [], []
        batch = 32 if self.device.type == "cuda" else 4  # on a CPU larger ones overflow its cache, and take twice as long
        for start in range(0, len(points), batch):
            place = self.place(embedding, points[start : start + batch])[:, None]
            logits, scores = self.decode(embedding, place, None, several=True)
            logits, scores = self._valid(embedding, logits.flatten(0, 1)), scores.flatten()
            area = (logits > 0).sum((1, 2))
            keep = (scores >= min_score) & (_stability(logits) >= min_stability)
            keep &= (area >= 6) & (area <= LARGEST * logits[0].numel())
            masks.append(logits[keep])
            sure.append(scores[keep])
        logits, scores = torch.cat(masks), torch.cat(sure)
        rows = distinct((logits > 0).numpy(), scores.numpy(), max_overlap)
        return self._upsample(embedding, logits[rows], scores[rows])

    def place(self, embedding: ImageEmbedding, points: np.ndarray) -> torch.Tensor:
        """px of the picture → px of the network's square, less the half pixel that its prompt encoder adds by itself."""
        scale = np.array([embedding.inner[1] / embedding.width, embedding.inner[0] / embedding.height])
        return torch.as_tensor(np.asarray(points, np.float64) * scale - 0.5, dtype=torch.float32)

    def decode(
        self, embedding: ImageEmbedding, points: Any, boxes: Any, several: bool, labels: Any = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits N×M×256×256 and scores N×M of N prompts, through which gradients may flow.

        `points` N×P×2 and `boxes` N×4 as `place` gives them; `labels` N×P: 0 for a point outside of the object; default: none is.
        Both networks take them alike, with one more axis in front.
        """
        if points is not None and labels is None:
            labels = torch.ones(points.shape[:2], dtype=torch.int64)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            output = self.network(
                image_embeddings=embedding.features,
                input_points=None if points is None else points[None].to(self.device),
                input_labels=None if labels is None else labels[None].to(self.device),
                input_boxes=None if boxes is None else boxes[None].to(self.device),
                multimask_output=several,
            )
        return output.pred_masks[0].float().cpu(), output.iou_scores[0].float().cpu()

    @staticmethod
    def _valid(embedding: ImageEmbedding, logits: torch.Tensor) -> torch.Tensor:
        """N×256×256 logits without the padding of the square."""
        height, width = (max(-(-s * LOW // SIDE), 1) for s in embedding.inner)
        return logits[:, :height, :width]

    @staticmethod
    @torch.inference_mode()
    def _upsample(embedding: ImageEmbedding, logits: torch.Tensor, scores: torch.Tensor) -> list[Mask]:
        """N×h×w logits (padding at right and below allowed) → masks in the picture's own size, made one at a time."""
        masks, size = [], (embedding.height, embedding.width)
        height, width = embedding.inner
        for one, score in zip(logits, scores.tolist(), strict=True):
            # First to the network's square, cut there, then to the picture: a direct resize would shift masks by the rounding.
            large = F.interpolate(one[None, None], scale_factor=SIDE / LOW, mode="bilinear", align_corners=False)
            full = (F.interpolate(large[..., :height, :width], size, mode="bilinear", align_corners=False)[0, 0] > 0).numpy()
            if full.any():
                rows, columns = np.flatnonzero(full.any(1)), np.flatnonzero(full.any(0))
                x, y = int(columns[0]), int(rows[0])
                masks.append(Mask(x, y, full[y : rows[-1] + 1, x : columns[-1] + 1].copy(), float(score)))
        return masks


def select_masks(masks: Sequence[Mask], size: int) -> list[Mask]:
    """The one mask, of those that a prompt gave in a picture of `size` px, that is taken; none where there is none.

    Of a point's three nested masks the largest often is the whole field: nobody points at a cell to have that.
    """
    return ([m for m in masks if m.pixels.sum() <= LARGEST * size] or list(masks))[:1]


def _stability(logits: torch.Tensor, offset: float = 1.0) -> torch.Tensor:
    """IoU of each mask cut a little above and a little below its threshold (SAM, appendix B)."""
    high, low = (logits > offset).sum((1, 2)), (logits > -offset).sum((1, 2))
    return high / low.clamp(min=1)


def distinct(masks: np.ndarray, scores: np.ndarray, max_overlap: float) -> list[int]:
    """Indices of the masks that stay, best first: one goes when its IoU with a better one exceeds `max_overlap`. M×h×w bool."""
    flat = masks.reshape(len(masks), -1).astype(np.float32)
    areas = flat.sum(1)
    rows: list[int] = []
    for i in np.argsort(-scores, kind="stable"):
        if rows:
            common = flat[rows] @ flat[i]
            if (common / np.maximum(areas[rows] + areas[i] - common, 1)).max() > max_overlap:
                continue
        rows.append(int(i))
    return rows
