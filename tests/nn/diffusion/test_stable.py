"""Stable Diffusion's own parts, tiny and untrained: loading, drawing, adapters, full fine-tuning, going on after a kill."""

import json

import numpy as np
import pytest
import torch

from pathasst.core.errors import BadInput, BadSettings
from pathasst.core.recipes import recipes_dir
from pathasst.core.records import ToolCall
from pathasst.nn.classifier import ClassifierItem
from pathasst.nn.diffusion import stable
from pathasst.nn.diffusion.stable import StableTraining, draw, finetune, load
from pathasst.tools import lbc_generate
from pathasst.tools.lbc_generate import LbcGenerate


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A Stable Diffusion of a few thousand weights in diffusers' layout."""
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("sd")
    letters = [*"abcdefghijklmnopqrstuvwxyz"]
    tokens = [*letters, *(f"{c}</w>" for c in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({t: n for n, t in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=16)
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokens), hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
            max_position_embeddings=16, bos_token_id=len(tokens) - 2, eos_token_id=len(tokens) - 1, pad_token_id=len(tokens) - 1,
        )
    )  # fmt: skip
    unet = UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, block_out_channels=(16, 32), layers_per_block=1, cross_attention_dim=16,
        attention_head_dim=8, norm_num_groups=8, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=(8, 16), latent_channels=4, norm_num_groups=4, down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2, sample_size=16,
    )  # fmt: skip
    pipeline = StableDiffusionPipeline(
        vae=vae, text_encoder=text, tokenizer=tokenizer, unet=unet, scheduler=DDIMScheduler(clip_sample=False),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipeline.save_pretrained(folder / "sd")
    return str(folder / "sd")


ITEMS = [ClassifierItem(np.full((16, 16, 3), 60 * k, np.uint8), "cell", str(k), "train") for k in range(3)]
TEXTS = ["a", "b", "c"]


def settings(checkpoint: str, **changes: object) -> StableTraining:
    return StableTraining(checkpoint=checkpoint, size=16, batch=2, lr=1e-2, workers=0, **{"steps": 3, "lora": 2, **changes})


def test_it_is_loaded_and_draws_the_same_for_the_same_seed(checkpoint):
    pipeline = load(checkpoint)
    one, two = (draw(pipeline, ["a cell", "a cell"], seed=4, steps=2, size=16) for _ in range(2))
    assert one.shape == (2, 16, 16, 3) and one.dtype == np.uint8
    assert np.array_equal(one, two) and not np.array_equal(one[0], one[1])


def test_adapters_are_trained_saved_and_loaded_and_the_rest_stays(checkpoint, tmp_path):
    lines = []
    finetune(settings(checkpoint, steps=20), ITEMS, TEXTS, tmp_path, lines.append)
    assert (tmp_path / "pytorch_lora_weights.safetensors").is_file() and lines[-1]["step"] == 20
    plain, tuned = draw(load(checkpoint), ["a"], steps=2, size=16), draw(load(checkpoint, tmp_path), ["a"], steps=2, size=16)
    assert not np.array_equal(plain, tuned)


def test_all_of_the_unet_can_be_trained(checkpoint, tmp_path):
    finetune(settings(checkpoint, lora=0), ITEMS, TEXTS, tmp_path)
    before, after = load(checkpoint), load(tmp_path)
    assert not torch.equal(before.unet.conv_in.weight, after.unet.conv_in.weight)
    assert torch.equal(before.vae.encoder.conv_in.weight, after.vae.encoder.conv_in.weight)


def test_an_interrupted_training_resumes_to_the_same_adapters(checkpoint, tmp_path):
    from safetensors.torch import load_file

    short = settings(checkpoint, steps=4, save_every=2)
    expected = load_file(finetune(short, ITEMS, TEXTS, tmp_path / "a") / stable.ADAPTERS)
    finetune(short, ITEMS, TEXTS, tmp_path / "b", stop_at=3)
    assert not (tmp_path / "b" / stable.ADAPTERS).exists()
    resumed = load_file(finetune(short, ITEMS, TEXTS, tmp_path / "b") / stable.ADAPTERS)
    assert all(torch.equal(expected[k], resumed[k]) for k in expected)


@pytest.mark.parametrize("lora", [4, 0])
def test_the_tool_draws_with_what_was_fine_tuned(checkpoint, tmp_path, lora, monkeypatch):
    finetune(settings(checkpoint, steps=1, lora=lora), ITEMS, TEXTS, tmp_path)
    monkeypatch.setattr(lbc_generate, "recognised", lambda drawn, cell_class: None)
    asked = {"cell_class": "HSIL", "count": 2, "seed": 3}
    result = LbcGenerate(str(tmp_path))(ToolCall(name="lbc_generate", arguments=asked))
    assert not result.error and len(result.pictures) == 2 and result.pictures[0].image != result.pictures[1].image


def test_adapters_without_their_checkpoint_say_so(tmp_path):
    (tmp_path / stable.ADAPTERS).touch()
    with pytest.raises(BadInput, match="checkpoint"):
        stable.StableGenerator(tmp_path)


def test_a_recipe_of_stable_diffusion_names_its_settings(tmp_path):
    file = tmp_path / "sd.yaml"
    file.write_text("checkpoint: sd\nsteps: 9\n")
    assert StableTraining.load(file) == StableTraining(checkpoint="sd", steps=9)
    file.write_text("colours: 3\n")
    with pytest.raises(BadSettings, match="colours"):
        StableTraining.load(file)
    assert StableTraining.load(recipes_dir() / "paper" / "generator.yaml").lora


def test_what_is_no_checkpoint_or_no_data_is_refused(checkpoint, tmp_path):
    with pytest.raises(BadInput, match="no Stable Diffusion"):
        load(tmp_path)
    with pytest.raises(BadSettings, match="sentences"):
        finetune(settings(checkpoint), ITEMS, ["a"], tmp_path)
