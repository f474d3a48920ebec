"""A real, tiny training of the diffusion model: words decide, a killed run goes on, pictures are marked as synthetic."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from pathasst.core import weights
from pathasst.core.errors import BadDataset, BadInput, BadSettings
from pathasst.core.records import ToolCall
from pathasst.nn.classifier import ClassifierItem
from pathasst.nn.diffusion.data import image_texts, recipe_cells
from pathasst.nn.diffusion.network import Generator, GeneratorConfig, SentenceVectors, SquarePCA
from pathasst.nn.diffusion.training import GeneratorTraining, train
from pathasst.tools.lbc_generate import LbcGenerate, as_png

needs_words = pytest.mark.skipif(not weights.present("minilm"), reason="MiniLM is not here: pathasst models pull minilm")
TINY = GeneratorTraining(
    size=16, widths=(16, 32), steps=300, minutes=0, batch=8, lr=4e-3, ema=0.9, no_text=0.1, precision="fp32", workers=0
)


def colours(n: int = 12) -> tuple[list[ClassifierItem], list[str]]:
    rng = np.random.default_rng(0)
    red, blue = np.array([200, 40, 40]), np.array([40, 40, 200])
    pictures = [np.clip((red if k % 2 else blue) + rng.integers(-15, 15, (16, 16, 3)), 0, 255).astype(np.uint8) for k in range(n)]
    texts = ["a red picture" if k % 2 else "a blue picture" for k in range(n)]
    return [ClassifierItem(p, "cell", str(k), "train") for k, p in enumerate(pictures)], texts


@needs_words
def test_words_decide_what_is_drawn_and_the_seed_repeats_it(tmp_path):
    items, texts = colours()
    train(TINY, items, tmp_path, texts)
    generator = Generator.load(tmp_path)
    red, blue = (generator.draw([f"a {c} picture"] * 2, seed=3, steps=10) for c in ("red", "blue"))
    assert red.shape == (2, 16, 16, 3) and red.dtype == np.uint8
    warmth = [float(p[..., 0].mean()) - float(p[..., 2].mean()) for p in (red, blue)]
    assert warmth[0] > 15 and warmth[1] < -15
    assert np.array_equal(red, generator.draw(["a red picture"] * 2, seed=3, steps=10))
    assert not np.array_equal(red[0], red[1])


@needs_words
def test_an_interrupted_training_resumes_to_the_same_weights(tmp_path):
    items, texts = colours(4)
    short = TINY.replace(steps=6)
    expected = train(short, items, tmp_path / "a", texts).network.state_dict()
    train(short, items, tmp_path / "b", texts, stop_at=4)
    assert not (tmp_path / "b" / "model.safetensors").exists()
    torch.manual_seed(99)
    resumed = train(short, items, tmp_path / "b", texts).network.state_dict()
    assert all(torch.equal(expected[k], resumed[k]) for k in expected)
    assert not (tmp_path / "b" / "checkpoints").exists()


@needs_words
def test_cells_of_val_choose_the_weights_and_are_not_trained_on(tmp_path):
    items, texts = colours(6)
    items = [i if n < 4 else replace(i, split="val") for n, i in enumerate(items)]
    lines: list[dict] = []
    chosen = train(TINY.replace(steps=6, evaluate_every=3), items, tmp_path / "a", texts, lines.append)
    assert [line["step"] for line in lines if "val_loss" in line] == [3, 6]
    alone = train(TINY.replace(steps=6), items[:4], tmp_path / "b", texts[:4])
    assert all(torch.equal(v, alone.network.squares.state_dict()[k]) for k, v in chosen.network.squares.state_dict().items())


def test_squares_keep_what_their_components_hold():
    rng = torch.Generator().manual_seed(0)
    smooth = torch.nn.functional.interpolate(torch.rand(20, 3, 4, 4, generator=rng), size=16, mode="bilinear") * 2 - 1
    few, all_ = SquarePCA(4, 12), SquarePCA(4, 48)
    for squares in (few, all_):
        squares.fit(smooth)
    assert torch.allclose(all_.decode(all_.encode(smooth)), smooth, atol=1e-3)
    assert (few.decode(few.encode(smooth)) - smooth).square().mean() < 0.05 * smooth.var()
    assert few.encode(smooth).shape == (20, 12, 4, 4)


@needs_words
def test_sentences_embedded_together_and_alone_are_the_same():
    texts = ["HSIL cell", "a cervical cell of the class LSIL with clear halo around the nucleus", ""]
    together = SentenceVectors()(texts)
    alone = torch.cat([SentenceVectors()([t]) for t in texts])
    assert torch.allclose(together, alone, atol=1e-5) and together[2].abs().sum() == 0


def test_what_cannot_be_learnt_or_loaded_says_why(tmp_path):
    with pytest.raises(BadDataset, match="no picture"):
        train(TINY, [], tmp_path)
    with pytest.raises(BadInput, match="no generator"):
        Generator.load(tmp_path)
    with pytest.raises(BadSettings):
        GeneratorConfig(size=20)
    with pytest.raises(BadSettings, match="channels"):
        GeneratorConfig(square=2, channels=13)
    with pytest.raises(BadSettings, match="use no_text"):
        GeneratorTraining(unsaid=0.1)
    (tmp_path / "bad.yaml").write_text("minutes: 3\n")
    with pytest.raises(BadSettings, match="split"):
        recipe_cells(str(tmp_path / "bad.yaml"), tmp_path)


def test_image_and_text_come_in_the_imagefolder_layout(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "1.png")
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "1.png", "text": "a cell"}\n')
    items, texts = image_texts(tmp_path)
    assert texts == ["a cell"] and items[0].image == tmp_path / "1.png"
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "1.png"}\n')
    with pytest.raises(BadDataset, match="text"):
        image_texts(tmp_path)
    with pytest.raises(BadDataset, match="metadata"):
        image_texts(tmp_path / "nowhere")


@needs_words
def test_the_tool_marks_its_pictures_as_synthetic(tmp_path):
    items, texts = colours(4)
    train(TINY.replace(steps=1), items, tmp_path, texts)
    asked = {"cell_class": "HSIL", "nuclear_enlargement": 2.5, "hyperchromasia": True, "count": 2, "seed": 5}
    result = LbcGenerate(str(tmp_path))(ToolCall(name="lbc_generate", arguments=asked))
    assert not result.error and "synthetic" in result.text and "HSIL" in result.text and result.numbers["synthetic"] is True
    assert result.numbers["prompt"] == "HSIL cell with enlarged nucleus, dark nucleus"
    assert len(result.pictures) == 2 and all(p.synthetic for p in result.pictures)
    picture = Image.open(io.BytesIO(result.pictures[0].image))
    assert picture.size == (256, 256) and picture.info["Synthetic"].startswith("true") and picture.info["Seed"] == "5"


def test_the_mark_is_in_the_corner_and_leaves_the_cell_alone():
    pixels = np.asarray(Image.open(io.BytesIO(as_png(np.full((64, 64, 3), 90, np.uint8), {}))))
    assert (pixels[:230] == 90).all() and (pixels[235:, :80] == 255).any() and (pixels[235:, :80] == 0).any()
