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
from pathasst.mllm.generate import PathAsst
from pathasst.mllm.settings import LoraSettings, MllmTraining, ModelSettings, PhaseSettings

from .conftest import RED, SPECS, picture

ASK = [Turn(role="user", content="<image>\nIs it red?")]


def write_adapter(folder, tower, llm, rank=2):
    """A projector and adapters as `train` leaves them, with random values."""
    settings = MllmTraining(
        model=ModelSettings(vision=str(tower), llm=str(llm)),
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
    ours = PathAsst.load(source, engine="transformers")
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
    answer = network.generate(**inputs, max_new_tokens=8, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    words = ours.template.parse(processor.tokenizer.decode(answer)).content
    assert ours.reply(ASK, [image], SPECS, max_new_tokens=8, calls=False).content == words
    again = export(tmp_path / "out", tmp_path / "again", format)  # a whole checkpoint
    assert again[-1].name == "config.json"


def test_llama_cpp_answers_as_transformers(tiny_gguf, tiny_tower, tmp_path):
    pytest.importorskip("xllamacpp")
    from pathasst.mllm.llamacpp import LlamaEngine

    source = write_adapter(tmp_path / "adapter", tiny_tower, tiny_gguf.parent)
    export(source, tmp_path / "out", "gguf", "F32")
    theirs = PathAsst(LlamaEngine(tmp_path / "out", threads=1))
    ask = [Turn(role="user", content="What colour is the picture?")]
    words = PathAsst.load(source, engine="transformers").reply(ask, max_new_tokens=8).content
    words = re.sub(r"<\|\w+\|>", "", words).strip()  # llama.cpp keeps control tokens to itself
    assert theirs.reply(ask, max_new_tokens=8).content == words


def test_what_a_format_cannot_hold_is_refused(tiny_llm, tiny_tower, tmp_path):
    source = write_adapter(tmp_path / "adapter", tiny_tower, tiny_llm)
    whole = tmp_path / "whole"
    export(source, whole, "huggingface")
    bare = write_adapter(tmp_path / "bare", tiny_tower, tiny_llm, rank=0)
    (tmp_path / "empty").mkdir()
    for place, format, reason in [
        (source, "onnx", "choose huggingface, vllm, gguf, peft"),
        (source, "gguf", "no GGUF file whose vocabulary"),
        (whole, "gguf", "whole checkpoint"),
        (whole, "peft", "whole checkpoint"),
        (bare, "peft", "no adapters"),
        (tmp_path / "empty", "huggingface", "was not written by"),
    ]:
        with pytest.raises(BadSettings, match=reason):
            export(place, tmp_path / "out", format)
    with pytest.raises(BadSettings, match="the checkpoint itself"):
        export(whole, whole, "vllm")
    with pytest.raises(BadSettings, match="whole checkpoint"):
        PathAsst.load(whole, engine="llama.cpp")


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
