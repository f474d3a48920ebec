"""Captions made ready for the text tower: embedded once when it is frozen, tokenised once when it is not.

Knows towers and tokenizers, nothing of pictures.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np

from pathasst.clip.build import ClipConfig, token_counter, tokenizer_of
from pathasst.clip.data import sentence_windows
from pathasst.clip.text import encode_text, trim
from pathasst.core.hardware import has_fast_bfloat16

if TYPE_CHECKING:
    import torch
    from torch import nn


class Captions:
    """Captions, ready for the text tower: embedded once when the tower is frozen, tokenised once when it is not.

    A caption longer than the context becomes several `windows` of whole sentences that fit; a step draws one of them.
    """

    def __init__(self, model: nn.Module, config: ClipConfig, captions: list[str]) -> None:
        import torch

        self.model, self.config, self.frozen = model, config, config.has_hf_text
        count = token_counter(config)
        length = int(config.model["text_cfg"].get("context_length", 77))
        texts: list[str] = []
        self.windows: list[list[int]] = []  # caption → rows of `ids`
        for caption in captions:
            parts = sentence_windows(caption, count, length)
            self.windows.append(list(range(len(texts), len(texts) + len(parts))))
            texts += parts
        self.too_long = sum(count(c) > length for c in captions) / max(1, len(captions))  # share of the captions
        ids = tokenizer_of(config)(texts)
        self.ids, self.pooled = ids, torch.zeros(0)
        if self.frozen:
            tower = model.text.eval()  # type: ignore[union-attr]
            order = (ids != 0).sum(dim=1).argsort()
            pooled = torch.zeros(len(texts), int(tower.transformer.config.hidden_size))  # type: ignore
            device = model.logit_scale.device  # type: ignore[union-attr]
            fast = has_fast_bfloat16(str(device))
            with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=fast):  # type: ignore[arg-type, union-attr]
                for rows in order.split(128):
                    batch = trim(ids[rows]).to(device)  # type: ignore[arg-type]
                    mask = (batch != 0).long()
                    hidden = tower.transformer(input_ids=batch, attention_mask=mask)  # type: ignore[operator, union-attr]
                    pooled[rows] = tower.pooler(hidden, mask).float().cpu()  # type: ignore[operator, union-attr]
            self.pooled = pooled

    def beside(self, model: nn.Module) -> Captions:
        """The same captions for another model with the same frozen text tower; nothing is computed again."""
        other = copy.copy(self)
        other.model = model
        return other

    def draw(self, captions: list[int], rng: np.random.Generator) -> list[int]:
        """Rows for `encode`: the caption, or one of its windows."""
        windows = (self.windows[c] for c in captions)
        return [w[0] if len(w) == 1 else int(rng.choice(w)) for w in windows]

    def encode(self, rows: list[int]) -> torch.Tensor:
        """Rows from `draw` → float [m, d], unit rows, with gradient to what is trained of the text tower."""
        import torch.nn.functional as F

        if self.frozen:
            pooled = self.pooled[rows].to(self.model.logit_scale.device)  # type: ignore[union-attr, arg-type]
            return F.normalize(self.model.text.proj(pooled).float(), dim=-1)  # type: ignore[operator, union-attr]
        ids = self.ids[rows].to(self.model.logit_scale.device)  # type: ignore[union-attr]
        return encode_text(self.model, self.config, ids).float()
