"""The backbone: a timm network that gives feature maps at the asked strides. Knows nothing of points."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from pathasst.core.errors import BadSettings


class Backbone(nn.Module):
    """Feature maps of a picture at several strides.

    Takes N×3×H×W float in 0–1, H and W multiples of the greatest stride; gives one N×C_l×(H/s_l)×(W/s_l) map per stride.
    Raises BadSettings for an unknown network or a stride it has not.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, name: str, strides: tuple[int, ...], channels: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.body = _make(name, strides, channels)
        self.channels: list[int] = list(self.body.feature_info.channels())
        for key in ("mean", "std"):  # as the network's own pretrained weights were fed
            self.register_buffer(key, torch.tensor(_pixel_statistics(name)[key]).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """See the class."""
        features: list[torch.Tensor] = self.body((images - self.mean) / self.std)
        return features


def _make(name: str, strides: tuple[int, ...], channels: tuple[int, ...]) -> Any:
    import timm

    if name not in timm.list_models(name):
        raise BadSettings(f"timm knows no backbone {name!r}")
    narrow: dict[str, Any] = {}
    if channels:
        if not name.startswith("resnet"):
            raise BadSettings("channels can be set for ResNets only")
        # A narrow ResNet starts with three 3×3 convolutions: a 7×7 one over RGB alone would cost as much as a stage.
        narrow = {"channels": channels, "stem_type": "deep", "stem_width": max(channels[0] // 2, 8)}
    # Weights are never fetched here: the paper recipe loads its own from `weights`.
    model: Any = timm.create_model(name, features_only=True, pretrained=False, **narrow)
    reductions = model.feature_info.reduction()
    if missing := set(strides) - set(reductions):
        raise BadSettings(f"{name} has strides {reductions}, not {sorted(missing)}")
    indices = tuple(reductions.index(s) for s in strides)
    body: Any = timm.create_model(name, features_only=True, pretrained=False, out_indices=indices, **narrow)
    if hasattr(body, "blocks") and (last := getattr(body, "_stage_out_idx", {})):
        body.blocks = body.blocks[: max(last)]  # timm keeps the stages behind the last asked map, and runs them
    return body


def _pixel_statistics(name: str) -> dict[str, tuple[float, ...]]:
    import timm

    config = timm.get_pretrained_cfg(name)
    return {"mean": config.mean, "std": config.std} if config else {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
