from __future__ import annotations

import torch
import torch.nn.functional as F
from open_clip.loss import ClipLoss, SigLipLoss

from pathasst.clip.loss import TrueCaptionsLoss


def unit(*shape: int) -> torch.Tensor:
    return F.normalize(torch.randn(*shape), dim=-1)


def test_one_true_caption_each_is_openclips_loss() -> None:
    torch.manual_seed(0)
    images, texts, scale = unit(6, 8), unit(6, 8), torch.tensor(10.0)
    ours = TrueCaptionsLoss()(images, texts, scale, torch.eye(6, dtype=torch.bool))
    torch.testing.assert_close(ours, ClipLoss()(images, texts, scale))


def test_the_sigmoid_loss_is_siglips_and_takes_several_true_captions() -> None:
    torch.manual_seed(0)
    images, texts, scale, bias = unit(6, 8), unit(6, 8), torch.tensor(10.0), torch.tensor(-10.0)
    truth = torch.eye(6, dtype=torch.bool)
    ours = TrueCaptionsLoss()(images, texts, scale, truth, logit_bias=bias)
    torch.testing.assert_close(ours, SigLipLoss()(images, texts, scale, bias))
    truth[0, 1] = True
    both = TrueCaptionsLoss()(images, texts, scale, truth, logit_bias=bias)
    logit = scale * images[0] @ texts[1] + bias
    torch.testing.assert_close(both - ours, (F.softplus(-logit) - F.softplus(logit)) / 6)


def test_pictures_of_one_class_do_not_repel_each_others_captions() -> None:
    """Two pictures whose captions are both true of both: the perfect answer costs log 2 a row, and nothing can lower it."""
    texts = unit(2, 8)
    middle = F.normalize(texts.sum(dim=0, keepdim=True), dim=-1).expand(2, 8).clone().requires_grad_()
    loss = TrueCaptionsLoss()(middle, texts, torch.tensor(10.0), torch.ones(2, 2, dtype=torch.bool))
    torch.testing.assert_close(loss, torch.tensor(2.0).log())
    loss.backward()
    assert middle.grad is not None and middle.grad.abs().max() < 1e-5


def test_extra_captions_weigh_in_one_direction_only() -> None:
    torch.manual_seed(1)
    images, texts, scale = unit(3, 8), unit(5, 8), torch.tensor(5.0)
    truth = torch.eye(3, 5, dtype=torch.bool)
    per_image = F.cross_entropy(scale * images @ texts.T, torch.arange(3))
    per_text = F.cross_entropy(scale * texts[:3] @ images.T, torch.arange(3))
    torch.testing.assert_close(TrueCaptionsLoss()(images, texts[:3], scale, truth, texts[3:]), (per_image + per_text) / 2)
