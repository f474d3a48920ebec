from __future__ import annotations

import numpy as np
import pytest
import torch

from pathasst.mllm.pack import Sample, build_row, plan
from pathasst.mllm.packed_loss import features_of, row_loss, tree

PREFIXES = [list(range(5, 5 + n)) for n in (12, 7)]


def made(count: int, placeholder: int, patches: int, seed: int = 0) -> list[Sample]:
    draw = np.random.default_rng(seed)
    samples = []
    for n in range(count):
        prefix = PREFIXES[n % 2]
        words = draw.integers(5, 300, draw.integers(4, 30)).tolist()
        seen = [placeholder] * patches if n % 3 else []
        ids = prefix + words[:2] + seen + words[2:]
        mask = [False] * (len(ids) - 2) + [True, True]
        mask[len(prefix) + 2 + len(seen)] = True
        samples.append(Sample(f"s{n}", np.array(ids, np.int32), np.array(mask), len(prefix), (n,) if seen else ()))
    return samples


def test_every_sample_lies_in_one_row_without_padding():
    samples = made(40, 400, 16)
    rows = plan(samples, 128, seed=3)
    assert sorted(n for row in rows for n in row) == list(range(40))
    assert rows == plan(samples, 128, seed=3) != plan(samples, 128, seed=4)
    built = [build_row([samples[n] for n in row]) for row in rows]
    assert max(len(r.ids) for r in built) <= 128
    assert sum(int(r.targets.sum()) for r in built) == sum(s.supervised for s in samples)
    apart = plan(samples, 128, seed=3, share=False)
    assert len(rows) < len(apart)  # shared system turns take their tokens once


@pytest.mark.parametrize("share", [True, False])
def test_packed_loss_is_the_plain_loss(parts, share):
    """Against Hugging Face's own loss, one sample at a time, live vision tower left out of neither."""
    placeholder = parts.tokenizer.convert_tokens_to_ids("<image>")
    samples = made(9, placeholder, parts.image_tokens)
    torch.manual_seed(0)
    table = torch.randn(9, parts.image_tokens, 32)
    with torch.no_grad(), tree(parts):
        row = build_row(samples, share=share)
        packed = row_loss(parts, row, features_of(row, table))
    plain = torch.tensor(0.0)
    for s in samples:
        ids = torch.from_numpy(s.ids.astype(np.int64))[None]
        hidden = parts.llm.get_input_embeddings()(ids)
        if s.images:
            hidden[ids == placeholder] = parts.projector(table[list(s.images)]).reshape(-1, hidden.shape[-1])
        labels = torch.where(torch.from_numpy(s.mask)[None], ids, -100)
        with torch.no_grad():
            plain += parts.model(inputs_embeds=hidden, labels=labels).loss * s.supervised
    assert packed.item() == pytest.approx(plain.item(), rel=2e-5)


def test_samples_of_a_row_do_not_see_each_other(parts):
    placeholder = parts.tokenizer.convert_tokens_to_ids("<image>")
    samples = made(4, placeholder, parts.image_tokens, seed=1)
    table = torch.zeros(4, parts.image_tokens, 32)
    with torch.no_grad(), tree(parts):
        rows = [build_row(samples), *(build_row([s]) for s in samples)]
        together, *alone = (row_loss(parts, row, features_of(row, table)).item() for row in rows)
    assert together == pytest.approx(sum(alone), rel=2e-5)
