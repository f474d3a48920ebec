from __future__ import annotations

import io

import pytest
import torch
from PIL import Image
from transformers import AutoProcessor, LlavaForConditionalGeneration

from pathasst.core.errors import BadInput, BadSettings
from pathasst.core.records import IMAGE, Turn
from pathasst.mllm import model
from pathasst.mllm.chat import render

from .conftest import BLUE, RED, picture


def test_the_checkpoint_is_a_plain_llava(parts, tmp_path):
    """transformers alone, without our code, reads the folder and gives the same ids and logits."""
    model.save(parts, tmp_path)
    turns = [Turn(role="user", content=f"{IMAGE}\nIs it red?")]
    ids = render(turns, parts.tokenizer, parts.template, images=1, image_tokens=parts.image_tokens, prompt=True).ids
    image = picture(RED, noise=3)
    plain, processor = LlavaForConditionalGeneration.from_pretrained(tmp_path), AutoProcessor.from_pretrained(tmp_path)
    content = [{"type": "image"}, {"type": "text", "text": "Is it red?"}]
    text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    inputs = processor(images=Image.open(io.BytesIO(image)), text=text, return_tensors="pt")
    assert inputs["input_ids"][0].tolist() == ids
    with torch.no_grad():
        ours = parts.model(input_ids=torch.tensor([ids]), pixel_values=model.pixels(parts, [image])).logits
        torch.testing.assert_close(plain(**inputs).logits, ours, atol=1e-4, rtol=1e-4)
    again = model.load(tmp_path)
    assert again.template == parts.template
    assert again.image_tokens == parts.image_tokens == 16


def test_one_fully_connected_layer_on_patches_of_the_layer_before_last(parts):
    image = picture(BLUE, noise=1)
    found = model.features(parts, [image])
    assert found.shape == (1, 16, 32)
    with torch.no_grad():
        tower = parts.model.model.vision_tower(model.pixels(parts, [image]), output_hidden_states=True)
        torch.testing.assert_close(found, tower.hidden_states[-2][:, 1:])
        layer = parts.projector.linear_1
        torch.testing.assert_close(parts.projector(found), found @ layer.weight.T + layer.bias)


def test_unreadable_pictures_and_unknown_projectors():
    with pytest.raises(BadSettings, match="not 'mlp3x'"):
        model.ModelSettings(projector="mlp3x")


def test_unreadable_picture(parts):
    with pytest.raises(BadInput, match="picture 1 is not a picture"):
        model.features(parts, [b"no picture"])


def test_a_checkpoint_that_transformers_saved_again_is_read_with_its_template(parts, tmp_path):
    model.save(parts, tmp_path / "ours")
    again = tmp_path / "again"
    LlavaForConditionalGeneration.from_pretrained(tmp_path / "ours").save_pretrained(again, max_shard_size="100KB")
    assert (again / "model.safetensors.index.json").is_file()
    AutoProcessor.from_pretrained(tmp_path / "ours").save_pretrained(again)
    resaved = model.load(again)
    assert resaved.template == parts.template
    ours, theirs = model.load(tmp_path / "ours").model.state_dict(), resaved.model.state_dict()
    assert all(torch.equal(ours[k], theirs[k]) for k in ours)
    (again / "chat_template.jinja").unlink()
    with pytest.raises(BadSettings, match="neither chat_template"):
        model.load(again)
