"""Token ids → embeddings, without computing the padding that no text tower looks at. Knows OpenCLIP's towers.

Captions have some twenty tokens, CLIP's context 77: a batch is cut behind the end of its longest text. The result is the same but
for rounding.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from open_clip import CLIP
from open_clip.transformer import text_global_pool

from pathasst.clip.build import ClipConfig


def encode_text(model: Any, config: ClipConfig, ids: torch.Tensor) -> torch.Tensor:
    """int64 ids [n, context] → float [n, d], unit rows, with gradient. As OpenCLIP's `encode_text(ids, normalize=True)`."""
    if config.has_hf_text:
        return model.encode_text(trim(ids), normalize=True)  # type: ignore[no-any-return]
    if not (isinstance(model, CLIP) and model.attn_mask is not None and model.text_pool_type == "argmax"):
        return model.encode_text(ids, normalize=True)  # type: ignore[no-any-return]
    # A causal tower read at the end token, which has the highest number: what stands behind it is never looked at.
    ids = ids[:, : int(ids.argmax(dim=1).max()) + 1]
    length, kind = ids.shape[1], model.transformer.get_cast_dtype()
    x = model.token_embedding(ids).to(kind) + model.positional_embedding[:length].to(kind)
    x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:length, :length]))
    x = text_global_pool(x, ids, model.text_pool_type)
    project = model.text_projection
    if project is not None:
        x = project(x) if isinstance(project, torch.nn.Linear) else x @ project
    return F.normalize(x, dim=-1)


def trim(ids: torch.Tensor) -> torch.Tensor:
    """Cut the columns that are padding (0) in every row, for a Hugging Face text tower."""
    return ids[:, : max(1, int((ids != 0).sum(dim=1).max()))]
