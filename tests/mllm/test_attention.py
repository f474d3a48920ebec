"""Attention over packed rows in one call of torch's flash attention: the real `varlen_attn`, whose kernel, for GPUs alone, is
replaced by plain attention of each sequence under a mask; the arguments that would reach the kernel are thus what is tested.
"""

from __future__ import annotations

import pytest
import torch
from torch.nn.attention import varlen

from pathasst.core.errors import BadSettings
from pathasst.mllm.pack import build_row
from pathasst.mllm.packed_loss import features_of, row_loss, tree
from pathasst.mllm.settings import MllmTraining
from pathasst.mllm.train import attends_varlen
from pathasst.mllm.tree_attention import TreePiece, tree_attention, varlen_attention, varlen_runs

from .test_pack import made

CALLS: list[dict] = []  # what reached the kernel


def sequences(query, key, value, query_edges, key_edges, scale, window):
    """Of each sequence q, k, v (heads×n×d, the keys' heads repeated for their queries) and the odds heads×n×m under the mask: the
    last query is as far as the last key, as in FlashAttention 2.1 and later."""
    for q1, q2, k1, k2 in zip(query_edges, query_edges[1:], key_edges, key_edges[1:], strict=False):
        groups = query.shape[1] // key.shape[1]
        q, k, v = (t.transpose(0, 1) for t in (query[q1:q2], key[k1:k2], value[k1:k2]))
        k, v = (t.repeat_interleave(groups, 0) for t in (k, v))
        distance = torch.arange(k2 - k1 - (q2 - q1), k2 - k1)[:, None] - torch.arange(k2 - k1)
        visible = distance >= 0 if window[0] < 0 else (distance >= 0) & (distance <= window[0])
        odds = (q @ k.transpose(1, 2) * scale).masked_fill(~visible, float("-inf")).softmax(-1)
        yield slice(q1, q2), slice(k1, k2), q, k, v, odds


@pytest.fixture(scope="module", autouse=True)
def kernel():
    """The two operators of torch's `varlen_attn`, on a CPU. What is registered stays; no other test uses it."""

    def forward(q, k, v, q_edges, k_edges, most_q, most_k, causal=False, scale=None, window=None, gqa=False, *_):
        CALLS.append({"edges": (q_edges, k_edges), "most": (most_q, most_k), "causal": causal, "window": window, "gqa": gqa})
        assert q_edges.dtype == k_edges.dtype == torch.int32 and q.is_contiguous()
        out = torch.empty_like(q)
        for queries, _, _, _, values, odds in sequences(q, k, v, q_edges.tolist(), k_edges.tolist(), scale, window):
            out[queries] = (odds @ values).transpose(0, 1)
        return out, q.new_zeros(q.shape[1], q.shape[0]), torch.zeros(2, dtype=torch.uint64)

    def backward(grad, q, k, v, out, lse, q_edges, k_edges, most_q, most_k, causal, rng_state, scale=None, window=None):
        grads = [torch.zeros_like(t) for t in (q, k, v)]
        for places, key_places, queries, keys, values, odds in sequences(
            q, k, v, q_edges.tolist(), k_edges.tolist(), scale, window
        ):
            of_out = grad[places].transpose(0, 1)
            of_odds = of_out @ values.transpose(1, 2)
            of_scores = scale * odds * (of_odds - (of_odds * odds).sum(-1, keepdim=True))
            grads[0][places] = (of_scores @ keys).transpose(0, 1)
            for total, part in ((grads[1], of_scores.transpose(1, 2) @ queries), (grads[2], odds.transpose(1, 2) @ of_out)):
                total[key_places] = part.unflatten(0, (k.shape[1], -1)).sum(1).transpose(0, 1)
        return tuple(grads)

    varlen._varlen_attn.register_kernel("cpu")(forward)
    varlen._varlen_attn_backward.register_kernel("cpu")(backward)


PIECES = [
    TreePiece(0, 5),
    TreePiece(5, 9, ((0, 5),)),
    TreePiece(9, 16, ((0, 5), (5, 9))),
    TreePiece(16, 18, ((0, 5),)),
    TreePiece(18, 21),
]


@pytest.mark.parametrize("window", [None, 4])
def test_one_call_gives_what_piece_after_piece_gives(window):
    torch.manual_seed(0)
    query, key, value = torch.randn(1, 4, 21, 8), torch.randn(1, 2, 21, 8), torch.randn(1, 2, 21, 8)
    runs = varlen_runs(PIECES, torch.device("cpu"))
    assert runs.query_edges.tolist() == [0, 5, 9, 16, 18, 21] and runs.key_edges.tolist() == [0, 5, 14, 30, 37, 40]
    assert runs.keys.tolist()[14:30] == list(range(16)) and runs.keys.tolist()[30:37] == [0, 1, 2, 3, 4, 16, 17]
    one, _ = varlen_attention(None, query, key, value, None, 0.3, runs=runs, sliding_window=window)
    other, _ = tree_attention(None, query, key, value, None, 0.3, pieces=PIECES, sliding_window=window)
    torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)
    call = CALLS[-1]
    assert call["most"] == (7, 16) and call["gqa"]
    assert call["window"] == ([3, 0] if window else [-1, 0]) and call["causal"] == (window is None)


def test_loss_and_gradients_of_a_row_are_the_same(parts):
    samples = made(9, parts.tokenizer.convert_tokens_to_ids("<image>"), parts.image_tokens)
    table = torch.randn(9, parts.image_tokens, 32)
    row = build_row(samples)
    parts.projector.requires_grad_(True)
    weights = [parts.projector.linear_1.weight, *(p for p in parts.llm.parameters() if p.requires_grad)]
    results = []
    for in_one_call in (False, True):
        before = len(CALLS)
        with tree(parts, varlen=in_one_call):
            loss = row_loss(parts, row, features_of(row, table))
        results.append((loss, torch.autograd.grad(loss, weights)))
        assert len(CALLS) - before == (len(parts.llm.layers) if in_one_call else 0)  # no loop over pieces
    assert len(weights) > 10
    torch.testing.assert_close(results[1], results[0], atol=2e-4, rtol=1e-4)


def test_a_compiled_layer_takes_rows_of_any_shape(parts):
    """Through the compiler's front alone, which takes seconds: it must not start again for each row, which would take hours."""
    samples = made(12, parts.tokenizer.convert_tokens_to_ids("<image>"), parts.image_tokens)
    table = torch.randn(12, parts.image_tokens, 32)
    rows = [build_row(samples[:3]), build_row(samples[3:5]), build_row(samples[5:]), build_row(samples[2:9])]
    graphs = []

    def counted(graph, _):
        graphs.append(graph)
        return graph.forward

    with torch.no_grad(), tree(parts, varlen=True):
        plain = [row_loss(parts, row, features_of(row, table)).item() for row in rows]
        try:
            parts.llm.layers[0].compile(backend=counted, dynamic=True)
            compiled = [row_loss(parts, rows[0], features_of(rows[0], table)).item()]
            first = len(graphs)
            compiled += [row_loss(parts, row, features_of(row, table)).item() for row in rows[1:]]
        finally:
            parts.llm.layers[0]._compiled_call_impl = None
    assert compiled == pytest.approx(plain, rel=1e-5)
    assert 0 < first <= len(graphs) <= first + 1


def test_the_settings_say_where_it_runs(parts):
    cpu = MllmTraining(device="cpu", precision="fp32")
    assert not attends_varlen(cpu, parts.llm.config)
    with pytest.raises(BadSettings, match="it needs a GPU, it needs precision: bf16"):
        attends_varlen(cpu.replace(attention="varlen"), parts.llm.config)
    assert cpu.identity() == cpu.replace(attention="pieces").identity()
