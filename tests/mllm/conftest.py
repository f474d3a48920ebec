"""Tiny but real parts: a byte-level BPE tokenizer, an untrained Llama, a CLIP tower of 16 patches, pictures of two colours."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from pathasst.core.records import Conversation, Source, ToolCall, ToolSpec, Turn

KI67 = ToolSpec(name="ki67_cells", description="Counts nuclei. Not for H&E.", parameters={"type": "object", "properties": {}})
SEARCH = ToolSpec(
    name="papers_search",
    description="Searches abstracts of the literature.",
    parameters={
        "type": "object",
        "properties": {"query": {"type": "string"}, "k": {"type": "integer"}},
        "required": ["query"],
    },
    needs_image=False,
)
SPECS = [KI67, SEARCH]
WORDS = [
    "What colour is the picture? It is red. It is blue. It is grey.",
    '<tool_call>{"name": "ki67_cells", "arguments": {}}</tool_call> papers_search query',
    "A dialogue between a professional pathology assistant and a human. Tools: Counts nuclei",
]


def make_tokenizer():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(WORDS * 4, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|im_end|>", pad_token="<|endoftext|>")


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Tiny products gain nothing from a second thread, and beside other test processes they lose much by it."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny_llm(tmp_path_factory) -> Path:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("llm")
    tokenizer = make_tokenizer()
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        eos_token_id=2,
        bos_token_id=1,
        pad_token_id=0,
    )
    model = LlamaForCausalLM(config)
    _read_a_little(model, tokenizer)
    model.save_pretrained(folder)
    return folder


def _read_a_little(model, tokenizer) -> None:
    """Enough training on words alone that adapters have something to adapt."""
    import torch

    tags = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n{}<|im_end|>\n"
    call = '<tool_call>{"name": "ki67_cells", "arguments": {}}</tool_call>'
    said = [("What colour is the picture?", f"It is {c}.") for c in ("red", "blue")] + [("Count nuclei", call)]
    batch = tokenizer([tags.format(*pair) for pair in said], return_tensors="pt", padding=True)
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(60):
        optimiser.zero_grad()
        model(**batch, labels=labels).loss.backward()
        optimiser.step()


@pytest.fixture
def tiny_gguf(tiny_llm, tmp_path):
    """The tiny LLM as llama.cpp's converter would write it, in float32."""
    import json

    import gguf
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from pathasst.mllm import gguf_llm

    model, tokenizer = AutoModelForCausalLM.from_pretrained(tiny_llm), AutoTokenizer.from_pretrained(tiny_llm)
    bpe = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    tokens = sorted(bpe["vocab"], key=bpe["vocab"].__getitem__)
    c, path = model.config, tmp_path / "tiny.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(c.num_hidden_layers)
    writer.add_context_length(c.max_position_embeddings)
    writer.add_embedding_length(c.hidden_size)
    writer.add_feed_forward_length(c.intermediate_size)
    writer.add_head_count(c.num_attention_heads)
    writer.add_head_count_kv(c.num_key_value_heads)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(c.rms_norm_eps)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if t.startswith("<|") and t.endswith("|>") else 1 for t in tokens])
    writer.add_token_merges([" ".join(m) for m in bpe["merges"]])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(0)
    state = model.model.state_dict()
    names = {f"blk.{n}.{g}": f"layers.{n}.{h}" for n in range(2) for g, h in gguf_llm.NAMES.items()} | gguf_llm.TOP
    for name, own in names.items():
        values = state[own].numpy()
        heads = {"attn_q": c.num_attention_heads, "attn_k": c.num_key_value_heads}.get(name.split(".")[-2])
        writer.add_tensor(name, gguf_llm.permute(values, heads) if heads else values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="session")
def tiny_tower(tmp_path_factory) -> Path:
    import torch
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel

    folder = tmp_path_factory.mktemp("tower")
    torch.manual_seed(1)
    config = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=32,
        patch_size=8,
        initializer_range=0.2,
    )
    CLIPVisionModel(config).save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


@pytest.fixture
def parts(tiny_llm, tiny_tower):
    from pathasst.mllm.model import ModelSettings, build

    return build(ModelSettings(vision=str(tiny_tower), llm=str(tiny_llm)))


@pytest.fixture(scope="session")
def tokenizer():
    made = make_tokenizer()
    made.add_special_tokens({"extra_special_tokens": ["<image>"]})
    return made


def picture(colour: tuple[int, int, int], noise: int = 0) -> bytes:
    import numpy as np
    from PIL import Image

    pixels = np.full((32, 32, 3), colour, dtype=np.int16)
    pixels += np.random.default_rng(noise).integers(-12, 13, pixels.shape, dtype=np.int16) if noise else np.int16(0)
    out = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(out, "PNG")
    return out.getvalue()


RED, BLUE, BLANK = (210, 40, 40), (40, 40, 210), (255, 255, 255)
QUESTION = "<image>\nWhat colour is the picture?"


def colours(count: int) -> list[Conversation]:
    """Descriptions of red and blue pictures, and as many tool conversations."""
    made = []
    for n in range(count):
        colour, word = (RED, "red") if n % 2 else (BLUE, "blue")
        split = "val" if n >= count - 4 else "train"
        image = picture(colour, noise=n + 1)
        shared = {"images": [image], "source": Source(article_id="test"), "split": split}
        turns = [Turn(role="user", content=QUESTION), Turn(role="assistant", content=f"It is {word}.")]
        made.append(Conversation(conversation_id=f"c{n}", kind="describe", turns=turns, **shared))
        calls = [
            Turn(role="user", content="<image>\nCount nuclei"),
            Turn(role="assistant", tool_calls=[ToolCall(name="ki67_cells")]),
            Turn(role="tool", tool="ki67_cells", content=f"{n} nuclei"),
            Turn(role="assistant", content=f"{n} nuclei."),
        ]
        made.append(Conversation(conversation_id=f"t{n}", kind="invoke", turns=calls, tools=[s.name for s in SPECS], **shared))
    return made


def write(folder: Path, conversations: list[Conversation]) -> Path:
    from pathasst import dataset

    unit = dataset.Unit("all", [], "1")
    dataset.run_stage(
        folder, stage="instruct", record=Conversation, units=[unit], work=lambda _: iter(conversations), progress=False
    )
    return folder
