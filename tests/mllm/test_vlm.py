"""Tuning a finished vision–language model of another family: tiny random ones, their own processors, real steps."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from pathasst.core.errors import BadInput, BadSettings
from pathasst.core.records import IMAGE, Conversation, Source, ToolCall, Turn
from pathasst.mllm.vlm import VlmTraining, adapt, load, train
from pathasst.mllm.vlm_samples import IGNORED, VlmTemplate

from .conftest import BLUE, RED, SPECS, make_tokenizer, picture, write

CHATML = (
    "{% if tools %}<|im_start|>system\n{% for t in tools %}{{ t.function.name }}\n{% endfor %}<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for c in m.content %}"
    "{% if c.type == 'image' %}PICTURE{% else %}{{ c.text }}{% endif %}{% endfor %}"
    "{% for call in m.tool_calls or [] %}<tool_call>{{ call.function | tojson }}</tool_call>{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PLAIN = CHATML.replace("{% for call in m.tool_calls or [] %}<tool_call>{{ call.function | tojson }}</tool_call>{% endfor %}", "")
"""A template that writes no calls, as those of many vision–language models."""
REWRITES = CHATML.replace("{{ c.text }}", "{{ c.text if loop.last and m == messages[-1] or m.role != 'assistant' else '…' }}")
"""A template that shortens earlier turns, as those of reasoning models do."""
TEXT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.2,  # so that adapters under a frozen head can be sure of anything
}


def llava_onevision(folder: Path, template: str = CHATML) -> Path:
    from transformers import (
        LlavaOnevisionConfig,
        LlavaOnevisionForConditionalGeneration,
        LlavaOnevisionImageProcessor,
        LlavaOnevisionProcessor,
        LlavaOnevisionVideoProcessor,
        Qwen2Config,
        SiglipVisionConfig,
    )

    tokenizer = make_tokenizer()
    tokenizer.add_special_tokens({"extra_special_tokens": ["<image>", "<video>"]})
    image, video = tokenizer.convert_tokens_to_ids(["<image>", "<video>"])
    points = [[28, 56], [56, 28], [56, 56]]
    torch.manual_seed(0)
    config = LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(
            hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14
        ),
        text_config=Qwen2Config(vocab_size=len(tokenizer), **TEXT),
        image_token_index=image,
        video_token_index=video,
        image_token_id=image,
        video_token_id=video,
        image_grid_pinpoints=points,
        vision_feature_select_strategy="full",
        vision_feature_layer=-1,
    )
    LlavaOnevisionForConditionalGeneration(config).save_pretrained(folder)
    size = {"height": 28, "width": 28}
    LlavaOnevisionProcessor(
        image_processor=LlavaOnevisionImageProcessor(size=size, image_grid_pinpoints=points),
        tokenizer=tokenizer,
        video_processor=LlavaOnevisionVideoProcessor(size=size),
        num_image_tokens=4,
        vision_feature_select_strategy="full",
        chat_template=template.replace("PICTURE", "<image>\n"),
    ).save_pretrained(folder)
    return folder


def qwen_vl(folder: Path, template: str = CHATML) -> Path:
    from transformers import (
        Qwen2_5_VLConfig,
        Qwen2_5_VLForConditionalGeneration,
        Qwen2_5_VLProcessor,
        Qwen2VLImageProcessor,
        Qwen2VLVideoProcessor,
    )

    tokenizer = make_tokenizer()
    marks = ["<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"]
    tokenizer.add_special_tokens({"extra_special_tokens": marks})
    image, video, start, end = tokenizer.convert_tokens_to_ids(marks)
    torch.manual_seed(0)
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}
    config = Qwen2_5_VLConfig(
        text_config=TEXT | {"vocab_size": len(tokenizer), "rope_parameters": rope},
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_heads": 2,
            "out_hidden_size": 32,
            "fullatt_block_indexes": [1],
        },
        image_token_id=image,
        video_token_id=video,
        vision_start_token_id=start,
        vision_end_token_id=end,
    )
    Qwen2_5_VLForConditionalGeneration(config).save_pretrained(folder)
    Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(min_pixels=28 * 28, max_pixels=56 * 56),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(),
        chat_template=template.replace("PICTURE", "<|vision_start|><|image_pad|><|vision_end|>"),
    ).save_pretrained(folder)
    return folder


def qwen3_vl(folder: Path, template: str = CHATML) -> Path:
    from transformers import (
        Qwen2VLImageProcessor,
        Qwen3VLConfig,
        Qwen3VLForConditionalGeneration,
        Qwen3VLProcessor,
        Qwen3VLVideoProcessor,
    )

    tokenizer = make_tokenizer()
    marks = ["<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"]
    tokenizer.add_special_tokens({"extra_special_tokens": marks})
    image, video, start, end = tokenizer.convert_tokens_to_ids(marks)
    torch.manual_seed(0)
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2], "mrope_interleaved": True}
    config = Qwen3VLConfig(
        text_config=TEXT | {"vocab_size": len(tokenizer), "head_dim": 8, "rope_parameters": rope},
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_heads": 2,
            "out_hidden_size": 32,
            "num_position_embeddings": 16,
            "deepstack_visual_indexes": [0],
        },
        image_token_id=image,
        video_token_id=video,
        vision_start_token_id=start,
        vision_end_token_id=end,
    )
    Qwen3VLForConditionalGeneration(config).save_pretrained(folder)
    Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(patch_size=16, min_pixels=32 * 32, max_pixels=64 * 64),
        tokenizer=tokenizer,
        video_processor=Qwen3VLVideoProcessor(),
        chat_template=template.replace("PICTURE", "<|vision_start|><|image_pad|><|vision_end|>"),
    ).save_pretrained(folder)
    return folder


SIGLIP = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 14}


def gemma3(folder: Path, template: str = CHATML) -> Path:
    """The network of MedGemma, too."""
    from transformers import (
        Gemma3Config,
        Gemma3ForConditionalGeneration,
        Gemma3ImageProcessor,
        Gemma3Processor,
        Gemma3TextConfig,
        SiglipVisionConfig,
    )

    marks = {"image_token": "<image_soft_token>", "boi_token": "<start_of_image>", "eoi_token": "<end_of_image>"}
    tokenizer = make_tokenizer()
    tokenizer.add_special_tokens({"extra_special_tokens": list(marks.values())})
    about = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", **marks}
    tokenizer = type(tokenizer)(tokenizer_object=tokenizer.backend_tokenizer, **about)
    image, start, end = tokenizer.convert_tokens_to_ids(list(marks.values()))
    torch.manual_seed(0)
    config = Gemma3Config(
        text_config=Gemma3TextConfig(vocab_size=len(tokenizer), head_dim=8, sliding_window=64, **TEXT),
        vision_config=SiglipVisionConfig(image_size=56, **SIGLIP),
        mm_tokens_per_image=4,
        image_token_index=image,
        boi_token_index=start,
        eoi_token_index=end,
    )
    Gemma3ForConditionalGeneration(config).save_pretrained(folder)
    Gemma3Processor(
        image_processor=Gemma3ImageProcessor(size={"height": 56, "width": 56}),
        tokenizer=tokenizer,
        chat_template=template.replace("PICTURE", "<start_of_image>"),
        image_seq_length=4,
    ).save_pretrained(folder)
    return folder


def idefics3(folder: Path, template: str = CHATML) -> Path:
    """SmolVLM's network; its own processor wants num2words for videos."""
    from transformers import Idefics3Config, Idefics3ForConditionalGeneration, Idefics3ImageProcessor, Idefics3Processor

    tokenizer = make_tokenizer()
    marks = ["<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>"]
    tokenizer.add_special_tokens({"extra_special_tokens": marks})
    torch.manual_seed(0)
    config = Idefics3Config(
        text_config={"model_type": "llama", "vocab_size": len(tokenizer), **TEXT},
        vision_config={"image_size": 56, **SIGLIP},
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
    )
    Idefics3ForConditionalGeneration(config).save_pretrained(folder)
    Idefics3Processor(
        image_processor=Idefics3ImageProcessor(
            size={"longest_edge": 56}, max_image_size={"longest_edge": 56}, do_image_splitting=False
        ),
        tokenizer=tokenizer,
        image_seq_len=4,
        chat_template=template.replace("PICTURE", "<image>"),
    ).save_pretrained(folder)
    return folder


FAMILIES = {
    "llava_onevision": llava_onevision,
    "qwen2_5_vl": qwen_vl,
    "qwen3_vl": qwen3_vl,
    "gemma3": gemma3,
    "idefics3": idefics3,
}


def conversation(n: int, colour: tuple[int, int, int], word: str, **more) -> Conversation:
    turns = [
        Turn(role="user", content=f"{IMAGE}\nWhat colour is the picture?"),
        Turn(role="assistant", content=f"It is {word}."),
        Turn(role="user", content="Count nuclei"),
        Turn(role="assistant", tool_calls=[ToolCall(name="ki67_cells", arguments={})]),
        Turn(role="tool", content="12 nuclei", tool="ki67_cells"),
        Turn(role="assistant", content="12 nuclei."),
    ]
    about = {"conversation_id": f"c{n}", "kind": "invoke", "source": Source(article_id="test"), "tools": ["ki67_cells"], **more}
    return Conversation(turns=turns, images=[picture(colour, noise=n + 1)], **about)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("conversations")
    some = [conversation(n, (RED, BLUE)[n % 2], ("red", "blue")[n % 2], split="val" if n > 3 else "train") for n in range(6)]
    return write(folder, some)


def settings(folder: Path, **changes) -> VlmTraining:
    lora = {"rank": 4, "alpha": 8, "modules": ["q_proj", "v_proj", "down_proj"]}
    common = {"epochs": 10, "batch": 2, "lr": 0.02, "precision": "fp32", "lora": lora, "save_every": 3}
    return VlmTraining(**{"model": str(folder), **common, **changes})


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_tuned_and_its_adapter_is_loaded_by_peft_alone(family, data, tmp_path):
    folder = FAMILIES[family](tmp_path / "model")
    lines: list[str] = []
    adapter = train([data], tmp_path / "run", settings(folder, connector=True), SPECS, say=lines.append)
    losses = [float(line.rpartition("val_loss ")[2]) for line in lines if "val_loss" in line]
    untrained, processor = load(settings(folder))
    template = VlmTemplate(processor, {s.name: s for s in SPECS})
    (sample,) = template.samples(conversation(9, RED, "red"), 999)
    inputs = template.encode(sample)
    labels = inputs.pop("labels")
    before = untrained(**inputs, labels=labels).loss.detach()
    assert losses[-1] < 0.75 * float(before)

    from peft import PeftModel

    tuned = PeftModel.from_pretrained(untrained, adapter).eval()  # by the package alone, which names what does not fit
    after = tuned(**inputs, labels=labels).loss.detach()
    assert float(after) == pytest.approx(losses[-1], rel=0.2)
    assert float(after) < 0.75 * float(before)


def test_a_stopped_training_ends_as_one_that_was_not(data, tmp_path):
    from safetensors.torch import load_file

    from pathasst.mllm import vlm

    folder = llava_onevision(tmp_path / "model")
    short = settings(folder, epochs=3)
    whole = train([data], tmp_path / "whole", short, SPECS, say=lambda _: None)
    fit = vlm.fit
    try:
        vlm.fit = lambda task, s, out, log: fit(task, s, out, log=log, stop_at=4)
        train([data], tmp_path / "parts", short, SPECS, say=lambda _: None)
    finally:
        vlm.fit = fit
    parts = train([data], tmp_path / "parts", short, SPECS, say=lambda _: None)
    one, two = (load_file(a / "adapter_model.safetensors") for a in (whole, parts))
    assert set(one) == set(two)
    assert all(torch.equal(one[n], two[n]) for n in one)


def test_only_what_the_assistant_writes_is_learnt(tmp_path):
    _, processor = load(settings(llava_onevision(tmp_path / "m")))
    template = VlmTemplate(processor, {s.name: s for s in SPECS})
    (sample,) = template.samples(conversation(0, RED, "red"), 999)
    encoded = template.encode(sample)
    learnt = processor.tokenizer.decode(encoded["input_ids"][0][encoded["labels"][0] != IGNORED])
    call = '<tool_call>{"arguments": {}, "name": "ki67_cells"}</tool_call><|im_end|>\n'
    assert learnt.replace('{"name": "ki67_cells", "arguments": {}}', '{"arguments": {}, "name": "ki67_cells"}') == (
        f"It is red.<|im_end|>\n{call}12 nuclei.<|im_end|>\n"
    )
    assert sample.supervised == int((encoded["labels"] != IGNORED).sum())


def test_a_template_without_tools_reads_them_in_our_words(tmp_path):
    _, processor = load(settings(llava_onevision(tmp_path / "m", PLAIN)))
    template = VlmTemplate(processor, {s.name: s for s in SPECS})
    assert not template.native_tools
    (sample,) = template.samples(conversation(0, RED, "red"), 999)
    text = processor.tokenizer.decode(template.encode(sample)["input_ids"][0])
    assert "ki67_cells(): Counts nuclei" in text
    assert '<tool_call>{"name": "ki67_cells", "arguments": {}}</tool_call>' in text
    assert "Result of ki67_cells: 12 nuclei" in text


def test_a_template_that_rewrites_earlier_turns_gives_a_sample_for_each_answer(tmp_path):
    _, processor = load(settings(llava_onevision(tmp_path / "m", REWRITES)))
    template = VlmTemplate(processor, {s.name: s for s in SPECS})
    samples = template.samples(conversation(0, RED, "red"), 999)
    assert [s.learnt for s in samples] == [(1,), (3,), (5,)]
    first = template.encode(samples[0])
    assert processor.tokenizer.decode(first["input_ids"][0][first["labels"][0] != IGNORED]) == "It is red.<|im_end|>\n"


def test_what_cannot_be_learnt_is_refused_with_the_reason(tmp_path):
    folder = llava_onevision(tmp_path / "m")
    model, processor = load(settings(folder))
    template = VlmTemplate(processor, {})
    with pytest.raises(BadInput, match="longer than 5 tokens"):
        template.samples(conversation(0, RED, "red"), 5)
    from dataclasses import replace

    with pytest.raises(BadInput, match="1 pictures are named and 0 are there"):
        template.samples(replace(conversation(0, RED, "red"), images=[]), 999)
    with pytest.raises(BadSettings, match=r"has no layer .*it has .*q_proj"):
        adapt(model, settings(folder, lora={"rank": 2, "alpha": 4, "modules": ["qkv"]}))
    with pytest.raises(BadSettings, match="is no folder of a transformers model"):
        load(settings(tmp_path / "nothing"))


def test_pictures_of_any_size_pass(tmp_path):
    """Qwen's inputs have as many patches as the picture asks for."""
    import io
    from dataclasses import replace

    out = io.BytesIO()
    Image.new("RGB", (90, 30), (200, 0, 0)).save(out, "PNG")
    model, processor = load(settings(qwen_vl(tmp_path / "m")))
    template = VlmTemplate(processor, {s.name: s for s in SPECS})
    (sample,) = template.samples(replace(conversation(0, RED, "red"), images=[out.getvalue()]), 999)
    inputs = template.encode(sample)
    assert torch.isfinite(model(**inputs).loss)


def test_the_command_says_what_is_missing(data, tmp_path):
    from typer.testing import CliRunner

    from pathasst.cli.main import app

    run = CliRunner().invoke(app, ["train", "vlm", str(data), "--out", str(tmp_path / "run"), "--set", "device=cpu"])
    assert run.exit_code and "name it by --model" in str(run.exception or run.output)
