"""What one process computes in a step: features of its pictures and captions, ready for the losses.

One `nn.Module`, so that Accelerate can average its gradients over processes. Knows OpenCLIP's modules.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from pathasst.clip.captions import Captions


class Student(nn.Module):
    """A CLIP, and the heads that read the teacher's words off its tokens (training only)."""

    def __init__(self, clip: nn.Module, heads: nn.ModuleDict | None, texts: Captions) -> None:
        super().__init__()
        self.clip, self.heads, self.texts = clip, heads, texts

    def forward(
        self, patches: torch.Tensor, patch_indices: torch.Tensor, rows: list[int], students: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """With rows `image` [n, d], `text` [m, d] (unit rows), `scale`, and `bias` where the loss is the sigmoid one.

        Of the pictures `students` also `patches` and `pooled`. patches: float [n, k, 3·p·p]; patch_indices: int [n, k]; rows: of
        `Captions`, m of them; students: int, numbers of pictures.
        """
        visual: Any = self.clip.visual
        out: dict[str, torch.Tensor] = {}
        if hasattr(visual, "trunk") and patches.shape[-1] == visual.trunk.num_features:  # of a locked tower: its features
            image = visual.head(patches[:, 0])
        elif hasattr(visual, "trunk"):  # a convolutional tower sees its whole input as one patch
            side = math.isqrt(patches.shape[-1] // 3)
            image = visual(patches.view(-1, 3, side, side).contiguous(memory_format=torch.channels_last))
        else:
            pooled, tokens = encode_patches(visual, patches, patch_indices)
            image = pooled @ visual.proj if rows else pooled
        if self.heads is not None and len(students):
            out |= {"patches": self.heads["patches"](tokens[students]), "pooled": self.heads["pooled"](pooled[students])}
        if rows:
            out |= {
                "image": F.normalize(image.float(), dim=-1),
                "text": self.texts.encode(rows),
                "scale": self.clip.logit_scale.exp(),  # type: ignore[operator, union-attr]
            }
            if (bias := getattr(self.clip, "logit_bias", None)) is not None:
                out["bias"] = bias
        return out

    def train(self, mode: bool = True) -> Student:
        """As `nn.Module.train`, but batch normalisation keeps its pretrained statistics: our batches mix too many sets."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self


def encode_patches(visual: Any, patches: torch.Tensor, patch_indices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """OpenCLIP's `VisionTransformer` on some of the patches: the same modules, the rest never computed.

    Returns the pooled token float [n, width], before the projection, and the patch tokens [n, k, width].
    """
    x = F.linear(patches, visual.conv1.weight.flatten(1))
    places = visual.positional_embedding
    x = x + places[1:][patch_indices]
    head = (visual.class_embedding + places[0]).expand(len(x), 1, -1)
    x = visual.ln_pre(torch.cat([head.to(x.dtype), x], dim=1))
    pooled, tokens = visual._pool(visual.transformer(x))
    return pooled, tokens
