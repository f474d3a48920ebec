"""Pictures cut into tiles (LLaVA-NeXT) and pixel shuffle (Aya Vision): trained, resumed, exported, equal in transformers."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from pathasst.core.errors import BadSettings
from pathasst.core.records import Conversation, Source, Turn
from pathasst.mllm import adapter, layouts, model
from pathasst.mllm.data import FeatureTable, samples_of
from pathasst.mllm.export import export
from pathasst.mllm.generate import PathAsstModel
from pathasst.mllm.memory_plan import Tower, pictures_of
from pathasst.mllm.pack import build_row
from pathasst.mllm.packed_loss import embed, features_of, row_loss, tree
from pathasst.mllm.settings import LoraSettings, MllmTraining, ModelSettings, PhaseSettings
from pathasst.mllm.train import train
from pathasst.training import log as logs

from .conftest import BLUE, QUESTION, RED, SPECS, colours, picture, write

GRIDS = ((1, 2), (2, 1), (2, 2))
LAYOUTS = {
    "tiles": {"tiles": GRIDS, "projector": "mlp2x_gelu"},
    "tiles, one layer": {"tiles": GRIDS},
    "pixel shuffle": {"projector": "pixel-shuffle"},
}


def oblong(width: int, height: int, colour: tuple[int, int, int] = RED) -> bytes:
    out = io.BytesIO()
    square = Image.open(io.BytesIO(picture(colour, noise=width)))
    square.resize((width, height)).save(out, "PNG")
    return out.getvalue()


PICTURES = [oblong(70, 30), oblong(30, 70, BLUE), oblong(64, 64), oblong(20, 20)]
"""One row of two tiles, two rows, four tiles, and one that is smaller than a tile; unpadded lines of several lengths."""


@pytest.fixture(scope="module", params=LAYOUTS)
def built(request, tiny_tower, tiny_llm):
    return model.build(ModelSettings(vision=str(tiny_tower), llm=str(tiny_llm), **LAYOUTS[request.param]))


def test_transformers_alone_counts_and_sees_the_same(built, tmp_path):
    model.save(built, tmp_path)
    outside, notes = AutoModelForImageTextToText.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(notes[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert type(outside).__name__ == type(built.model).__name__
    processor = AutoProcessor.from_pretrained(tmp_path)
    again = model.load(tmp_path)
    for image in PICTURES:
        opened = Image.open(io.BytesIO(image))
        inputs = processor(text=["<image>\nWhat colour?"], images=[opened], return_tensors="pt")
        ids = inputs["input_ids"]
        tokens = int((ids == built.tokenizer.convert_tokens_to_ids("<image>")).sum())
        assert tokens == layouts.token_count(built.model, opened.height, opened.width) <= built.most_image_tokens
        with torch.no_grad():
            theirs = outside(**inputs).logits
            torch.testing.assert_close(again.model(**inputs).logits, theirs, atol=1e-4, rtol=1e-4)
            squares = layouts.PatchTokens(model.features(built, [image]), torch.tensor([[opened.height, opened.width]]))
            ours = built.model(inputs_embeds=embed(built, ids, squares), attention_mask=inputs["attention_mask"]).logits
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_a_packed_row_has_the_loss_of_transformers(built, tmp_path):
    """Conversations about pictures of several shapes in one row, from the table of features, which survives a kill."""
    turns = [Turn(role="user", content=QUESTION), Turn(role="assistant", content="It is red.")]
    both = [Turn(role="user", content="<image>\n<image>\nWhich is red?"), Turn(role="assistant", content="The first.")]
    pictured = [[image] for image in PICTURES]
    conversations = [
        Conversation(
            conversation_id=str(n),
            kind="describe",
            turns=both if len(images) == 2 else turns,
            images=images,
            source=Source(article_id="test"),
        )
        for n, images in enumerate([*pictured, PICTURES[:2]])
    ]
    table = FeatureTable.open(tmp_path / "f16", built)
    samples_of(conversations[:2], built, table, {})
    table.flush(built)
    with (tmp_path / "f16").open("ab") as file:
        file.write(b"half a row")
    table = FeatureTable.open(tmp_path / "f16", built)
    assert len(table.places) == 2
    samples, dropped = samples_of(conversations, built, table, {})
    assert not dropped and samples[-1].images == (0, 1)
    squares = table.tensor(built)
    assert table.computed == 2
    row = build_row(samples)
    with torch.no_grad(), tree(built):
        packed = float(row_loss(built, row, features_of(row, squares, table.places)))
    expected = 0.0
    for conversation, sample in zip(conversations, samples, strict=True):
        ids = torch.from_numpy(sample.ids)[None].long()
        opened = [Image.open(io.BytesIO(image)) for image in conversation.images]
        pixels = dict(built.image_processor(opened, return_tensors="pt"))
        with torch.no_grad():
            logits = built.model(input_ids=ids, **pixels).logits[0]
        places = torch.from_numpy(sample.mask.nonzero()[0])
        expected += float(torch.nn.functional.cross_entropy(logits[places - 1], ids[0, places], reduction="sum"))
    assert packed == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("layout", ["tiles, one layer", "pixel shuffle"])
def test_it_trains_resumes_answers_and_is_exported(layout, tiny_tower, tiny_llm, tmp_path, monkeypatch):
    from safetensors.torch import load_file

    from pathasst import training

    described = [c for c in colours(8) if c.kind == "describe"]
    wide = [replace(c, images=[oblong(60, 30, RED if "red" in c.turns[1].content else BLUE)]) for c in described]
    data = write(tmp_path / "data", wide)
    settings = MllmTraining(
        model=ModelSettings(vision=str(tiny_tower), llm=str(tiny_llm), **LAYOUTS[layout]),
        phase1=PhaseSettings(take={"describe": 0}, projector_lr=2e-3, row_tokens=400),
        phase2=PhaseSettings(take={"describe": 0}, epochs=2, lr=1e-2, row_tokens=400, lora=LoraSettings(rank=4, alpha=8)),
        precision="fp32",
        save_every=2,
        evaluate_every=1000,
        optimizer="adamw-8bit",
        async_save=True,
    )
    final = train([data], tmp_path / "run", settings, SPECS, say=lambda _: None)
    val = [[x["val_loss"] for x in logs.read(tmp_path / "run" / f"phase{n}") if "val_loss" in x][-1] for n in (1, 2)]
    assert val[1] < val[0]
    fit = training.fit

    class Stop(Exception):
        pass

    def stopping(task, chosen, out, **rest):
        fit(task, chosen, out, **rest, stop_at=3 if out.name == "phase2" else 0)
        if out.name == "phase2":
            raise Stop

    monkeypatch.setattr(training, "fit", stopping)
    with pytest.raises(Stop):
        train([data], tmp_path / "stopped", settings, SPECS, say=lambda _: None)
    monkeypatch.setattr(training, "fit", fit)
    stopped = train([data], tmp_path / "stopped", settings, SPECS, say=lambda _: None)
    one, two = (load_file(folder / adapter.WEIGHTS) for folder in (final, stopped))
    assert all(torch.equal(one[n], two[n]) for n in one)
    assert ("projector.image_newline" in one) == (layout != "pixel shuffle")
    assert ("projector.layernorm.weight" in one) == (layout == "pixel shuffle")
    export(final, tmp_path / "out", "huggingface")
    ask, images = [Turn(role="user", content=QUESTION)], [oblong(70, 30)]
    ours = PathAsstModel.load(final, engine="transformers").reply(ask, images, max_new_tokens=6)
    theirs = PathAsstModel.load(tmp_path / "out")
    assert theirs.reply(ask, images, max_new_tokens=6) == ours == theirs.reply_many([(ask, images, [])], max_new_tokens=6)[0]
    again = [*ask, ours, Turn(role="user", content="<image>\nAnd this?")]
    longer = theirs.reply(again, [*images, oblong(30, 70, BLUE)], max_new_tokens=6)  # the first picture is not read again
    fresh = PathAsstModel.load(tmp_path / "out")
    assert fresh.reply(again, [*images, oblong(30, 70, BLUE)], max_new_tokens=6) == longer
    with pytest.raises(BadSettings, match="a GGUF has no place"):
        export(tmp_path / "out", tmp_path / "gguf", "gguf")
    if layout == "pixel shuffle":
        with pytest.raises(BadSettings, match="was not tried in vLLM"):
            export(final, tmp_path / "vllm", "vllm")


def test_the_plan_counts_their_tokens(tiny_tower):
    one = ModelSettings(vision=str(tiny_tower))
    assert pictures_of(one) == Tower(16, 32)
    assert pictures_of(one.replace(tiles=GRIDS)) == Tower(80, 32)
    assert pictures_of(one.replace(projector="pixel-shuffle")) == Tower(4, 128)


def test_what_cannot_be_cut_is_refused(tiny_tower, tiny_llm, tmp_path: Path):
    from transformers import BitImageProcessor, Dinov2WithRegistersConfig, Dinov2WithRegistersModel

    with pytest.raises(BadSettings, match="tiles need the projector"):
        ModelSettings(tiles=GRIDS, projector="pixel-shuffle")
    with pytest.raises(BadSettings, match="at least one row"):
        ModelSettings(tiles=((0, 2),))
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}
    Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**sizes, num_register_tokens=2)).save_pretrained(tmp_path)
    BitImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    with pytest.raises(BadSettings, match="without registers"):
        model.build(ModelSettings(vision=str(tmp_path), llm=str(tiny_llm), tiles=GRIDS))
