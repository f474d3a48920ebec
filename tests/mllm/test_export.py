"""Exports, read again by the program that they are for, and refusals of what a format cannot hold."""

from __future__ import annotations

import json
import re

import pytest
import torch
from typer.testing import CliRunner

from pathasst.cli.main import app
from pathasst.core.errors import BadSettings
from pathasst.core.records import Turn
from pathasst.mllm import adapter, lora, model
from pathasst.mllm.export import export
from pathasst.mllm.generate import PathAsstModel
from pathasst.mllm.settings import LoraSettings, MllmTraining, ModelSettings, PhaseSettings
from pathasst.mllm.tool_text import OPEN

from .conftest import RED, SPECS, picture

ASK = [Turn(role="user", content="<image>\nIs it red?")]


def write_adapter(folder, tower, llm, rank=2, template="chatml"):
    """A projector and adapters as `train` leaves them, with random values."""
    settings = MllmTraining(
        model=ModelSettings(vision=str(tower), llm=str(llm), template=template),
        phase2=PhaseSettings(take={"describe": 0}, lora=LoraSettings(rank=rank, modules=["q_proj", "down_proj"])),
    )
    parts = model.build(settings.model)
    parts.projector.linear_1.requires_grad_(True)
    if rank:
        lora.attach(parts.llm, rank, 4, ["q_proj", "down_proj"])
        with torch.no_grad():
            for name, parameter in parts.llm.named_parameters():
                if name.endswith("lora_B"):
                    parameter.normal_(std=0.1)
    adapter.save(parts, folder, settings)
    return folder


@pytest.mark.parametrize("format", ["huggingface", "vllm"])
def test_transformers_alone_gives_the_same_ids_and_vllm_finds_its_names(format, tiny_llm, tiny_tower, tmp_path):
    from PIL import Image
    from safetensors import safe_open
    from transformers import AutoProcessor, LlavaForConditionalGeneration

    source = write_adapter(tmp_path / "adapter", tiny_tower, tiny_llm)
    done = CliRunner().invoke(app, ["export", str(source), "--to", format, "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    with safe_open(tmp_path / "out" / "model.safetensors", "pt") as file:
        names = set(file.keys())
    towers = [n for n in names if "vision_tower" in n]
    assert towers and all("vision_tower.vision_model." in n for n in towers)
    ours = PathAsstModel.load(source, engine="transformers")
    network, notes = LlavaForConditionalGeneration.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not notes["missing_keys"] and not notes["unexpected_keys"]
    processor = AutoProcessor.from_pretrained(tmp_path / "out")
    import io

    image = picture(RED, noise=1)
    content = [{"type": "image", "image": Image.open(io.BytesIO(image))}, {"type": "text", "text": "Is it red?"}]
    tools = [
        {"type": "function", "function": {"name": s.name, "description": s.description, "parameters": s.parameters}}
        for s in SPECS
    ]
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": content}],
        tools=tools,
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    )
    assert inputs["input_ids"][0].tolist() == ours.prompt_ids(ASK, 1, SPECS)
    opening = processor.tokenizer(OPEN, add_special_tokens=False).input_ids[:1]  # which `calls=False` bars, too
    barred = [*network.generation_config.suppress_tokens, *opening]
    few = 3  # more of one token would be a loop, which our engine ends: random weights made one in 40 of them
    answer = network.generate(**inputs, max_new_tokens=few, do_sample=False, suppress_tokens=barred)
    answer = answer[0, inputs["input_ids"].shape[1] :]
    words = ours.template.parse(processor.tokenizer.decode(answer)).content
    assert ours.reply(ASK, [image], SPECS, max_new_tokens=few, calls=False).content == words
    again = export(tmp_path / "out", tmp_path / "again", format)  # a whole checkpoint
    assert again[-1].name == "config.json"


@pytest.fixture
def language_model(request, tmp_path):
    """(folder of an LLM, template) by name."""
    from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config

    from .conftest import make_tokenizer
    from .test_chat_law import sentencepiece_tokenizer

    if request.param in ("gguf file", "whole checkpoint"):
        return request.getfixturevalue("tiny_gguf").parent, "chatml"
    folder = tmp_path / "llm"
    folder.mkdir()
    tokenizer = sentencepiece_tokenizer(folder) if request.param == "vicuna" else make_tokenizer()
    tokenizer.save_pretrained(folder)
    kind = Qwen2Config if request.param == "qwen2" else LlamaConfig
    torch.manual_seed(3)
    config = kind(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        initializer_range=0.3,
        bos_token_id=1,
        eos_token_id=2,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder, "paper" if request.param == "vicuna" else "chatml"


@pytest.mark.parametrize(
    ("language_model", "whole"),
    [("gguf file", False), ("llama", False), ("qwen2", False), ("vicuna", False), ("whole checkpoint", True)],
    indirect=["language_model"],
)
def test_llama_cpp_answers_as_transformers(language_model, whole, tiny_tower, tmp_path):
    pytest.importorskip("xllamacpp")
    from pathasst.mllm.llamacpp import LlamaEngine

    llm, template = language_model
    source = write_adapter(tmp_path / "adapter", tiny_tower, llm, template=template)
    if whole:
        export(source, tmp_path / "whole", "huggingface")
    export(tmp_path / "whole" if whole else source, tmp_path / "out", "gguf", "F32")
    theirs = PathAsstModel(LlamaEngine(tmp_path / "out", threads=1))
    ours = PathAsstModel.load(source, engine="transformers")
    ask = [Turn(role="user", content="What colour is the picture?")]
    assert theirs.prompt_ids(ask, 0, SPECS) == ours.prompt_ids(ask, 0, SPECS)
    words = ours.reply(ask, max_new_tokens=8).content
    words = re.sub(r"<\|\w+\|>|</?s>", "", words).strip()  # llama.cpp keeps control tokens to itself
    assert theirs.reply(ask, max_new_tokens=8).content == words


def test_what_a_format_cannot_hold_is_refused(tiny_llm, tiny_tower, tmp_path):
    source = write_adapter(tmp_path / "adapter", tiny_tower, tiny_llm)
    whole = tmp_path / "whole"
    export(source, whole, "huggingface")
    bare = write_adapter(tmp_path / "bare", tiny_tower, tiny_llm, rank=0)
    (tmp_path / "empty").mkdir()
    for place, format, reason in [
        (source, "onnx", "choose huggingface, vllm, gguf, peft"),
        (whole, "peft", "whole checkpoint"),
        (bare, "peft", "no adapters"),
        (tmp_path / "empty", "huggingface", "was not written by"),
    ]:
        with pytest.raises(BadSettings, match=reason):
            export(place, tmp_path / "out", format)
    with pytest.raises(BadSettings, match="the checkpoint itself"):
        export(whole, whole, "vllm")
    with pytest.raises(BadSettings, match="whole checkpoint"):
        PathAsstModel.load(whole, engine="llama.cpp")


def test_a_gguf_of_another_architecture_is_refused(tiny_llm, tiny_tower, tmp_path):
    """A Qwen2 file was once written out as `llama`, which no program loads, and success was reported."""
    import gguf

    base = tmp_path / "qwen"
    base.mkdir()
    writer = gguf.GGUFWriter(base / "q.gguf", "qwen2")
    writer.add_tokenizer_model("gpt2")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    source = write_adapter(tmp_path / "adapter", tiny_tower, tiny_llm)
    about = json.loads((source / adapter.FILE).read_text())
    about["model"]["llm"] = str(base)
    (source / adapter.FILE).write_text(json.dumps(about))
    with pytest.raises(BadSettings, match="no llama-architecture GGUF"):
        export(source, tmp_path / "out", "gguf")
