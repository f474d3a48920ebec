"""OpenCLIP's contrastive losses, softmax and sigmoid (SigLIP), with several true captions a picture.

Knows features and a truth matrix. With captions composed from labels, many pictures of a batch share a class: plain CLIP would
push a picture away from captions that are true of it (false negatives). Here every true caption of the batch is a target: the
target distribution of a row is uniform over its true entries (as in UniCL and supervised contrastive learning). With one true
caption a picture, they equal `open_clip.ClipLoss` and `SigLipLoss`. On several processes the features are gathered with gradient,
as OpenCLIP does.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from open_clip.loss import ClipLoss, gather_features


class TrueCaptionsLoss(ClipLoss):
    """`ClipLoss` whose targets are a truth matrix. Each of `world_size` processes holds an equal part of the pictures."""

    def __init__(self, rank: int = 0, world_size: int = 1) -> None:
        super().__init__(local_loss=False, gather_with_grad=True, rank=rank, world_size=world_size)

    def forward(  # type: ignore[override]
        self,
        image_features: torch.Tensor,
        text_features: torch.Tensor,
        logit_scale: torch.Tensor,
        truth: torch.Tensor,
        extra_features: torch.Tensor | None = None,
        logit_bias: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Mean of picture→text and text→picture cross-entropy over the pictures of all processes.

        With a `logit_bias`, a float, the sigmoid loss (Zhai et al. 2023): each picture and caption is judged by itself, true or
        not, summed over the captions and averaged over the pictures.

        image_features, text_features: float [n, d], unit rows, this process's pictures and their captions in order.
        extra_features: float [e, d], further captions, the same in every process, that only the direction picture→text sees.
        truth: bool [N, N + e] for all N = n · world_size pictures, processes in order of their rank.
        """
        images, texts = image_features, text_features
        if self.world_size > 1:
            images, texts = gather_features(images, texts, self.local_loss, self.gather_with_grad, self.rank, self.world_size)
        per_image = logit_scale * images @ texts.T
        per_text = per_image.T
        if extra_features is not None and len(extra_features):
            per_image = torch.cat([per_image, logit_scale * images @ extra_features.T], dim=1)
        if logit_bias is not None:
            signs = truth.to(per_image.dtype) * 2 - 1
            return -F.logsigmoid(signs * (per_image + logit_bias)).sum() / len(truth)
        of_text = truth[:, : len(truth)].T
        return (F.cross_entropy(per_image, _uniform(truth)) + F.cross_entropy(per_text, _uniform(of_text))) / 2


def _uniform(truth: torch.Tensor) -> torch.Tensor:
    weights = truth.float()
    return weights / weights.sum(dim=1, keepdim=True).clamp(min=1)
