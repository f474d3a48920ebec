"""EfficientNet-Lite0 read at every depth: its maps of each stage pooled into one vector. Knows no task.

The last layer of an ImageNet network has thrown away much of what tells tissues apart: grain, texture, colour. The earlier stages
still have it, as means and deviations over the picture; what lies in the middle of a cell's crop is the mean around its centre.
Registered with timm under `NAME`, so that OpenCLIP and `pathasst.nn.classifier` build it as they build any backbone; its weights
are those of `tf_efficientnet_lite0`, by the same names.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timm.models import register_model
from torch import nn

from pathasst.core import weights
from pathasst.nn import pretrained

NAME = "efficientnet_lite0_levels"
WIDTHS = (16, 24, 40, 80, 112, 192, 320, 1280)
"""Channels of the seven stages and of the last layer."""
CENTRE = 0.2
"""Deviation of the Gaussian around the picture's centre, as a share of its side."""


class Levels(nn.Module):
    """Picture [b, 3, h, w] → [b, classes], or with 0 classes the features [b, num_features] themselves.

    Features are, for the seven stages and the last layer in turn, the channels' means, then all their deviations, then all their
    means around the centre.
    """

    def __init__(self, classes: int = 0) -> None:
        super().__init__()
        net: Any = pretrained.efficientnet_lite0(pretrained=False)
        self.conv_stem, self.bn1, self.blocks, self.conv_head, self.bn2 = (
            getattr(net, part) for part in ("conv_stem", "bn1", "blocks", "conv_head", "bn2")
        )
        self.default_cfg = net.default_cfg
        self.num_features = 3 * sum(WIDTHS)
        self.reset_classifier(classes)

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """A fresh last layer; none for 0 classes. The pooling cannot be chosen."""
        self.num_classes = num_classes
        self.classifier = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()

    def get_classifier(self) -> nn.Module:
        return self.classifier

    def forward_features(self, pixels: torch.Tensor) -> torch.Tensor:
        """float32 [b, num_features]."""
        maps = self._maps(pixels)
        return torch.cat([pool(m) for pool in (_mean, _deviation, _centre) for m in maps], dim=1)

    def forward_head(self, features: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        return features if pre_logits else self.classifier(features)  # type: ignore[no-any-return]

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.forward_head(self.forward_features(pixels))

    def _maps(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        out, maps = self.bn1(self.conv_stem(pixels)), []
        for stage in self.blocks:
            out = stage(out)
            maps.append(out.float())
        return [*maps, self.bn2(self.conv_head(out)).float()]


def _mean(maps: torch.Tensor) -> torch.Tensor:
    return maps.mean(dim=(2, 3))


def _deviation(maps: torch.Tensor) -> torch.Tensor:
    return maps.flatten(2).std(dim=2, correction=0)


def _centre(maps: torch.Tensor) -> torch.Tensor:
    rows, columns = (_bell(side, maps.device) for side in maps.shape[2:])
    return torch.einsum("bchw,h,w->bc", maps, rows, columns)


def _bell(side: int, device: torch.device) -> torch.Tensor:
    """float32 [side], a Gaussian around the middle with sum 1."""
    places = (torch.arange(side, device=device) + 0.5) / side - 0.5
    weights = torch.exp(-((places / CENTRE) ** 2) / 2)
    return weights / weights.sum()


class Standardise(nn.Module):
    """Features → the same with mean 0 and deviation 1 on those that `fit` saw. Depths differ a hundredfold in their values."""

    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("deviation", torch.ones(width))

    def fit(self, features: np.ndarray) -> None:
        """`features`: float [n, width]. A channel that hardly varies is not blown up: at least 1 % of its mean counts."""
        mean = features.mean(axis=0, dtype=np.float64)
        deviation = np.maximum(features.std(axis=0, dtype=np.float64), 0.01 * np.abs(mean) + 1e-4)
        self.mean.copy_(torch.from_numpy(mean))
        self.deviation.copy_(torch.from_numpy(deviation))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return (features - self.mean) / self.deviation


def standardised(head: nn.Sequential) -> nn.Sequential:
    """OpenCLIP's head of a timm tower, its features standardised first, under the name `norm`."""
    parts = dict(head.named_children())
    return nn.Sequential(OrderedDict(norm=Standardise(3 * sum(WIDTHS)), **parts))


def pooled(pictures: Sequence[np.ndarray], threads: int = 1, batch: int = 32) -> np.ndarray:
    """Features float32 [n, 6192] of H×W×3 uint8 RGB pictures of any sizes: shorter side to 224 px, the middle of the longer.

    By ONNX Runtime, without gradients. Raises MissingWeights.
    """
    session, features = _session(threads), [np.zeros((0, 3 * sum(WIDTHS)), np.float32)]
    for start in range(0, len(pictures), batch):
        pixels = np.stack([_square(p) for p in pictures[start : start + batch]]).astype(np.float32) / 127.5 - 1
        features += session.run(None, {"pixels": np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))})
    return np.concatenate(features)


def _square(picture: np.ndarray, side: int = 224) -> np.ndarray:
    from PIL import Image

    image = Image.fromarray(picture)
    scale = side / min(image.size)
    wide, high = (max(side, int(v * scale)) for v in image.size)
    left, top = (wide - side) // 2, (high - side) // 2
    return np.asarray(image.resize((wide, high), Image.Resampling.BICUBIC).crop((left, top, left + side, top + side)))


@lru_cache(maxsize=2)
def _session(threads: int) -> Any:
    from pathasst.nn.onnx import cached_onnx, open_session

    return open_session(cached_onnx(weights.path("efficientnet-lite0"), _write, (pretrained.LITE0_FILE,), NAME), threads)


def _write(folder: Path, file: Path) -> None:
    """`pixels` float32 b×3×224×224 in −1…1 → `features` b×6192."""
    net = Levels().eval()
    net.load_state_dict(pretrained.efficientnet_lite0().state_dict(), strict=False)
    axes = {"pixels": {0: "b"}, "features": {0: "b"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the newer exporter needs two packages more
        torch.onnx.export(
            net, (torch.zeros(2, 3, 224, 224),), str(file), dynamo=False, opset_version=17,
            input_names=["pixels"], output_names=["features"], dynamic_axes=axes,
        )  # fmt: skip


default_cfgs = {NAME: {"mean": pretrained.MEAN, "std": pretrained.STD}}  # timm reads them under this name


@register_model
def efficientnet_lite0_levels(pretrained: bool = False, num_classes: int = 0, **options: Any) -> Levels:
    """What `timm.create_model` calls. Weights are loaded by whoever builds it; timm's options are not for it."""
    return Levels(num_classes)
