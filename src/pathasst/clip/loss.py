"""OpenCLIP's contrastive loss with several true captions a picture.

Knows logits and a truth matrix. With captions composed from labels, many pictures of a batch share a class: plain CLIP would push
a picture away from captions that are true of it (false negatives). Here every true caption of the batch is a target: the target
distribution of a row is uniform over its true entries (as in UniCL and supervised contrastive learning). With one true caption a
picture, it equals `open_clip.ClipLoss`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from open_clip.loss import ClipLoss


class TrueCaptionsLoss(ClipLoss):
    """`ClipLoss` whose targets are a truth matrix."""

    def forward(  # type: ignore[override]
        self,
        image_features: torch.Tensor,
        text_features: torch.Tensor,
        logit_scale: torch.Tensor,
        truth: torch.Tensor,
        pairs: int,
    ) -> torch.Tensor:
        """Mean of picture→text and text→picture cross-entropy.

        image_features: float [n, d], unit rows. text_features: float [m, d], unit rows; the first `pairs` belong to the pictures
        in order, the rest are extra captions that only the direction picture→text sees. truth: bool [n, m].
        """
        per_image, _ = self.get_logits(image_features, text_features, logit_scale)
        per_text, of_text = per_image[:, :pairs].T, truth[:, :pairs].T
        return (F.cross_entropy(per_image, _uniform(truth)) + F.cross_entropy(per_text, _uniform(of_text))) / 2


def _uniform(truth: torch.Tensor) -> torch.Tensor:
    weights = truth.float()
    return weights / weights.sum(dim=1, keepdim=True).clamp(min=1)
