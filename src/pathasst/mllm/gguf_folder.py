"""The language model of a Hugging Face folder as GGUF: what llama.cpp's own converter would write, for the families below.

Written with the `gguf` package, which has the names of tensors and keys but no converter. Knows `Parts`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pathasst.core.errors import BadSettings
from pathasst.mllm import gguf_llm
from pathasst.mllm.model import Parts

if TYPE_CHECKING:
    import numpy as np

ARCHITECTURES = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}
"""transformers' model type → llama.cpp's architecture."""
NORMAL, UNKNOWN, CONTROL, UNUSED, BYTE = 1, 2, 3, 5, 6  # llama.cpp's kinds of tokens


def write(parts: Parts, out: Path, quantisation: str) -> None:
    """The merged LLM, vocabulary and all. Raises BadSettings for a family or tokenizer that is not known here."""
    import gguf

    from pathasst.mllm.gguf_file import add_tensor, finish

    config = parts.llm.config
    architecture = ARCHITECTURES.get(config.model_type)
    rope = dict(getattr(config, "rope_parameters", None) or {})
    if architecture is None:
        raise BadSettings(
            f"{config.model_type} cannot be written as GGUF here, only {', '.join(ARCHITECTURES)}; use huggingface."
        )
    if rope.get("rope_type", "default") != "default":
        raise BadSettings(f"rotary positions of the type {rope['rope_type']} cannot be written as GGUF here; use huggingface.")
    writer = gguf.GGUFWriter(out, architecture)
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_rope_dimension_count(head)
    writer.add_rope_freq_base(float(rope.get("rope_theta", 10000.0)))
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_file_type(getattr(gguf.LlamaFileType, f"MOSTLY_{quantisation}", gguf.LlamaFileType.ALL_F32))
    rows = parts.llm.get_input_embeddings().weight.shape[0]
    writer.add_vocab_size(rows)
    _vocabulary(writer, parts.tokenizer, rows)
    kind = {name: arch for arch, name in gguf.MODEL_ARCH_NAMES.items()}[architecture]
    names = gguf.get_tensor_name_map(kind, config.num_hidden_layers)
    state = {f"model.{n}": t for n, t in parts.llm.state_dict().items()}
    if not config.tie_word_embeddings:
        state["lm_head.weight"] = parts.model.lm_head.weight
    for name, tensor in state.items():
        place = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if place is None:
            raise BadSettings(f"llama.cpp's {architecture} has no place for {name}; use huggingface.")
        values: np.ndarray = tensor.detach().float().cpu().numpy()
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(name.split(".")[-2])
        if heads and architecture == "llama":
            values = gguf_llm.permute(values, heads)
        add_tensor(writer, place, values, quantisation)
    finish(writer)


def _vocabulary(writer: Any, tokenizer: Any, rows: int) -> None:
    """Tokens, their kinds, and how words are cut into them."""
    plan = json.loads(tokenizer.backend_tokenizer.to_str())
    model = plan["model"]
    if model["type"] != "BPE":
        raise BadSettings(f"a {model['type']} tokenizer cannot be written as GGUF here; use huggingface.")
    merges = [tuple(m.split(" ", 1)) if isinstance(m, str) else tuple(m) for m in model["merges"]]
    tokens = {i: t for t, i in model["vocab"].items()}
    kinds = dict.fromkeys(tokens, NORMAL)
    for added in plan["added_tokens"]:
        tokens[added["id"]], kinds[added["id"]] = added["content"], CONTROL
    if (unknown := tokenizer.unk_token_id) is not None:
        kinds[unknown] = UNKNOWN
    sentencepiece = bool(model.get("byte_fallback"))
    if sentencepiece:
        kinds |= {i: BYTE for i, t in tokens.items() if len(t) == 6 and t.startswith("<0x") and t.endswith(">")}
    texts = [tokens.get(i, f"[UNUSED{i}]") for i in range(rows)]
    writer.add_tokenizer_model("llama" if sentencepiece else "gpt2")
    writer.add_token_list(texts)
    writer.add_token_types([kinds.get(i, UNUSED) for i in range(rows)])
    if sentencepiece:  # the pair whose whole has the highest score is merged first
        ranks = {"".join(pair): -float(rank) for rank, pair in reversed(list(enumerate(merges)))}
        writer.add_token_scores([ranks.get(text, -1e6 if kinds.get(i) == NORMAL else 0.0) for i, text in enumerate(texts)])
        start = tokenizer.bos_token or ""
        first = tokenizer.convert_ids_to_tokens(tokenizer(f"{start}a", add_special_tokens=False).input_ids)[bool(start)]
        writer.add_add_space_prefix(first.startswith("▁"))
    else:
        writer.add_tokenizer_pre(_splits(plan["pre_tokenizer"]))
        writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_add_bos_token(False)  # the template writes it
    for name in ("bos", "eos", "pad", "unk"):
        if (number := getattr(tokenizer, f"{name}_token_id")) is not None:
            getattr(writer, f"add_{name}_token_id")(number)


def _splits(pre_tokenizer: Any) -> str:
    """llama.cpp's name of the way a byte-level tokenizer splits words, told by its pattern."""
    text = json.dumps(pre_tokenizer)
    if "{1,3}" in text:
        return "llama-bpe"
    if "Split" in text and r"\\p{N}|" in text:
        return "qwen2"
    if "Digits" in text:
        return "smollm"
    if {step["type"] for step in pre_tokenizer.get("pretokenizers", [pre_tokenizer])} == {"ByteLevel"}:
        return "gpt-2"
    raise BadSettings("this tokenizer's way to split words is not known to llama.cpp's export here; use huggingface.")
