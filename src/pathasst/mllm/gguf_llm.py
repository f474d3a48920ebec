"""A Llama-family language model out of a GGUF file: configuration, weights and tokenizer, in one reading.

`transformers` does the same with `gguf_file=` (the tests hold the two equal), but reads the file three times and takes
three to four times as long; the embedded PathAsst starts from such a file on every load. Knows the `llama` architecture
with a byte-level BPE tokenizer (SmolLM2, Llama 3); for anything else, `model.language_model` falls back to `transformers`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pathasst.core.errors import BadInput

if TYPE_CHECKING:
    import numpy as np
    import torch

NAMES = {
    "attn_q.weight": "self_attn.q_proj.weight",
    "attn_k.weight": "self_attn.k_proj.weight",
    "attn_v.weight": "self_attn.v_proj.weight",
    "attn_output.weight": "self_attn.o_proj.weight",
    "ffn_gate.weight": "mlp.gate_proj.weight",
    "ffn_up.weight": "mlp.up_proj.weight",
    "ffn_down.weight": "mlp.down_proj.weight",
    "attn_norm.weight": "input_layernorm.weight",
    "ffn_norm.weight": "post_attention_layernorm.weight",
}
"""GGUF name inside a block → name inside a `LlamaDecoderLayer`."""
TOP = {"token_embd.weight": "embed_tokens.weight", "output_norm.weight": "norm.weight"}
CONTROL = 3  # GGUF's token type of control tokens


@dataclass(frozen=True, slots=True)
class GgufLlm:
    """What the file holds. `state` has the names of `LlamaModel`; matrices are out × in."""

    config: dict[str, Any]  # arguments of LlamaConfig
    state: dict[str, torch.Tensor]
    tokenizer: Any  # a transformers tokenizer


def permute(weight: np.ndarray, heads: int, *, back: bool = False) -> np.ndarray:
    """Rows of a query or key matrix between Hugging Face's rotary order (halves) and GGUF's (interleaved), or `back`."""
    rows, rest = weight.shape[0], weight.shape[1:]
    shape = (heads, rows // heads // 2, 2, *rest) if back else (heads, 2, rows // heads // 2, *rest)
    return weight.reshape(shape).swapaxes(1, 2).reshape(weight.shape)


def readable(path: Path) -> bool:
    """Whether `read` knows the architecture and tokenizer of a GGUF file."""
    reader = _open(path)
    return _value(reader, "general.architecture") == "llama" and _value(reader, "tokenizer.ggml.model") == "gpt2"


def read(path: Path, dtype: torch.dtype) -> GgufLlm:
    """Read a GGUF file; quantised matrices are expanded to `dtype`. Raises BadInput for an architecture not known here."""
    reader = _open(path)
    if _value(reader, "general.architecture") != "llama" or _value(reader, "tokenizer.ggml.model") != "gpt2":
        raise BadInput(
            f"{path.name} is no llama-architecture GGUF with a byte-level BPE tokenizer; load it through transformers."
        )
    config = _config(reader)
    return GgufLlm(config, _state(reader, config, dtype), _tokenizer(reader))


def tokenizer(path: Path) -> Any:
    """The tokenizer alone."""
    return _tokenizer(_open(path))


def _open(path: Path) -> Any:
    import struct

    from pathasst.mllm.gguf_file import GgufFile

    try:
        return GgufFile(path)
    except (ValueError, IndexError, KeyError, struct.error) as error:
        raise BadInput(f"{path} is no whole GGUF file ({error}); copy or fetch it again.") from error


def _value(reader: Any, key: str, default: Any = None) -> Any:
    entry = reader.get_field(key)
    return default if entry is None else entry.contents()


def _config(reader: Any) -> dict[str, Any]:
    heads = _value(reader, "llama.attention.head_count")
    return {
        "vocab_size": len(_value(reader, "tokenizer.ggml.tokens")),
        "hidden_size": _value(reader, "llama.embedding_length"),
        "intermediate_size": _value(reader, "llama.feed_forward_length"),
        "num_hidden_layers": _value(reader, "llama.block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": _value(reader, "llama.attention.head_count_kv", heads),
        "max_position_embeddings": _value(reader, "llama.context_length"),
        "rms_norm_eps": _value(reader, "llama.attention.layer_norm_rms_epsilon"),
        "rope_parameters": {"rope_type": "default", "rope_theta": _value(reader, "llama.rope.freq_base", 10000.0)},
        "tie_word_embeddings": all(t.name != "output.weight" for t in reader.tensors),
        "bos_token_id": _value(reader, "tokenizer.ggml.bos_token_id"),
        "eos_token_id": _value(reader, "tokenizer.ggml.eos_token_id"),
        "pad_token_id": _value(reader, "tokenizer.ggml.padding_token_id"),
    }


def _state(reader: Any, config: dict[str, Any], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    import gguf
    import torch

    heads = {"attn_q.weight": config["num_attention_heads"], "attn_k.weight": config["num_key_value_heads"]}
    state: dict[str, torch.Tensor] = {}
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        name, part = TOP.get(tensor.name, ""), ""
        if tensor.name.startswith("blk."):
            _, layer, part = tensor.name.split(".", 2)
            name = f"layers.{layer}.{NAMES[part]}" if part in NAMES else ""
        elif tensor.name == "output.weight":
            name = "lm_head.weight"
        if not name:
            continue  # rope_freqs and the like: computed, not learned
        if part in heads:
            values = permute(values, heads[part], back=True)
        state[name] = torch.from_numpy(values.copy()).to(dtype)
    return state


def _tokenizer(reader: Any) -> Any:
    """The byte-level BPE of the file, as a transformers tokenizer with the file's chat template."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokens = _value(reader, "tokenizer.ggml.tokens")
    types = _value(reader, "tokenizer.ggml.token_type")
    merges = [tuple(m.split(" ", 1)) for m in _value(reader, "tokenizer.ggml.merges")]
    backend = Tokenizer(models.BPE({t: n for n, t in enumerate(tokens)}, merges))
    level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    single = _value(reader, "tokenizer.ggml.pre") == "smollm"  # its digits stand alone
    digits: list[Any] = [pre_tokenizers.Digits(individual_digits=True)] if single else []
    backend.pre_tokenizer = pre_tokenizers.Sequence([*digits, level])
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(t, special=True) for t, k in zip(tokens, types, strict=True) if k == CONTROL])
    names = {f"{kind}_token": tokens[id_] for kind, id_ in _special_ids(reader).items() if id_ is not None}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, clean_up_tokenization_spaces=False, **names)
    tokenizer.chat_template = _value(reader, "tokenizer.chat_template")
    return tokenizer


def _special_ids(reader: Any) -> dict[str, int | None]:
    keys = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
    return {kind: _value(reader, f"tokenizer.ggml.{key}_token_id") for kind, key in keys.items()}
