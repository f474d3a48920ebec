from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from pathasst.clip.build import ClipConfig, build, tokenizer_of
from pathasst.clip.text import encode_text

TEXTS = ["liver", "a poorly differentiated squamous cell carcinoma of the lung, hematoxylin and eosin", ""]


@pytest.mark.parametrize(
    "change", [{}, {"proj_bias": True}, {"no_causal_mask": True}, {"pool_type": "last"}, {"proj_type": "none", "width": 32}]
)
def test_as_openclip_with_its_gradients(tiny: dict, change: dict[str, Any]) -> None:
    given = copy.deepcopy(tiny)
    given["text_cfg"] |= change
    torch.manual_seed(0)
    config = ClipConfig(given)
    model: Any = build(config)
    ids = tokenizer_of(config)(TEXTS)
    direction = torch.randn(len(TEXTS), given["embed_dim"])
    vectors, gradients = [], []
    for encode in (lambda: model.encode_text(ids, normalize=True), lambda: encode_text(model, config, ids)):
        model.zero_grad()
        vectors.append(encode())
        (vectors[-1] * direction).sum().backward()
        gradients.append({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
    torch.testing.assert_close(vectors[1], vectors[0], atol=1e-6, rtol=0)
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-5, rtol=1e-4, msg=name)


def test_a_causal_tower_computes_no_padding(tiny: dict) -> None:
    config = ClipConfig(tiny)
    model: Any = build(config)
    ids = tokenizer_of(config)(TEXTS)
    seen: list[int] = []
    model.transformer.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape[1]))
    encode_text(model, config, ids)
    encode_text(model, config, ids[:1])
    assert seen == [int(ids.argmax(dim=1).max()) + 1, 3]  # start, "liver", end
