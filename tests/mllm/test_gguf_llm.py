from __future__ import annotations

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from pathasst.core.errors import BadInput
from pathasst.mllm import export, gguf_llm
from pathasst.mllm.gguf_file import GgufFile
from pathasst.mllm.model import language_model

TEXTS = ["Is it blue? 12.5 %", "<|im_start|>user\nα é<|im_end|>", '{"name": "ki67_cells"}']


def test_the_file_gives_the_model_that_was_written(tiny_gguf, tiny_llm):
    read = gguf_llm.read(tiny_gguf, torch.float32)
    theirs = AutoModelForCausalLM.from_pretrained(tiny_llm).model.state_dict()
    assert set(theirs) == set(read.state)
    assert all(torch.equal(theirs[name], tensor) for name, tensor in read.state.items())
    own = AutoTokenizer.from_pretrained(tiny_llm)
    assert [read.tokenizer(t).input_ids for t in TEXTS] == [own(t).input_ids for t in TEXTS]
    assert gguf_llm.readable(tiny_gguf)


def test_equal_to_transformers_reading(tiny_gguf):
    config, state, tokenizer = language_model(tiny_gguf.parent, torch.float32)
    theirs = AutoModelForCausalLM.from_pretrained(tiny_gguf.parent, gguf_file=tiny_gguf.name)
    assert all(torch.equal(tensor, state[name]) for name, tensor in theirs.model.state_dict().items())
    own = AutoTokenizer.from_pretrained(tiny_gguf.parent, gguf_file=tiny_gguf.name)
    assert [tokenizer(t).input_ids for t in TEXTS] == [own(t).input_ids for t in TEXTS]
    for name in ("hidden_size", "num_key_value_heads", "rms_norm_eps", "tie_word_embeddings", "vocab_size"):
        assert getattr(config, name) == getattr(theirs.config, name)


def test_exported_llm_is_read_back(parts, tiny_gguf, tmp_path):
    """What `export` writes (without the placeholder's row) is the trained LLM again."""
    with torch.no_grad():
        parts.llm.layers[0].self_attn.q_proj.weight.add_(0.01)
    out = tmp_path / "out.gguf"
    export.write_llm(parts, tiny_gguf, out, "F32")
    back = gguf_llm.read(out, torch.float32).state
    for name, tensor in parts.llm.state_dict().items():
        assert torch.equal(back[name], tensor[: len(back[name])])
    export.write_llm(parts, tiny_gguf, out, "Q8_0")
    rough = gguf_llm.read(out, torch.float32).state["layers.1.mlp.up_proj.weight"]
    torch.testing.assert_close(rough, parts.llm.layers[1].mlp.up_proj.weight.data, atol=5e-3, rtol=0)


def test_the_quick_reader_gives_what_the_packages_own_gives(tiny_gguf):
    quick, own = GgufFile(tiny_gguf), gguf.GGUFReader(tiny_gguf)
    assert list(quick.fields) == list(own.fields)
    for name, entry in own.fields.items():
        assert quick.fields[name].contents() == entry.contents(), name
        assert quick.fields[name].types == entry.types
    assert all(np.array_equal(a.data, b.data) for a, b in zip(quick.tensors, own.tensors, strict=True))


def test_a_file_that_ends_within_the_vocabulary_is_refused(tiny_gguf, tmp_path):
    content = tiny_gguf.read_bytes()
    (tmp_path / "half.gguf").write_bytes(content[: content.index(b"tokenizer.ggml.tokens") + 200])
    with pytest.raises(BadInput, match=r"half\.gguf is no whole GGUF file"):
        gguf_llm.readable(tmp_path / "half.gguf")


def test_another_architecture_is_refused(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "x.gguf", "falcon")
    writer.add_tensor("a", np.zeros(4, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(BadInput, match=r"x\.gguf is no llama"):
        gguf_llm.read(tmp_path / "x.gguf", torch.float32)
