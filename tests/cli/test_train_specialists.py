"""`pathasst train classifier` and `train generator` as a person calls them, on pictures made on the spot."""

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from pathasst import weights
from pathasst.cli.train import app
from pathasst.errors import BadDataset

needs_lite0 = pytest.mark.skipif(
    not weights.present("efficientnet-lite0"), reason="EfficientNet-Lite0 is not here: pathasst models pull efficientnet-lite0"
)


@needs_lite0
def test_a_folder_of_folders_becomes_a_classifier(tmp_path):
    rng = np.random.default_rng(0)
    for label, colour in (("blue", (60, 60, 190)), ("red", (190, 60, 60))):
        (tmp_path / "set" / label).mkdir(parents=True)
        for n in range(6):
            pixels = np.clip(np.array(colour) + rng.integers(-30, 30, (40, 40, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "set" / label / f"{n}.png")
    run = CliRunner().invoke(app, ["classifier", str(tmp_path / "set"), "--out", str(tmp_path / "out"), "--minutes", "0.0001"])
    assert run.exit_code == 0, run.output
    assert "test: macro F1" in run.output
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())["scores"]
    assert scores["test"]["macro_f1"]["value"] == 1  # the probe alone tells red from blue


@pytest.mark.parametrize("options", [[], ["--stable", "nowhere"]])
def test_a_folder_without_sentences_is_refused(tmp_path, options):
    run = CliRunner().invoke(app, ["generator", str(tmp_path), "--out", str(tmp_path / "out"), *options])
    assert isinstance(run.exception, BadDataset) and "metadata" in str(run.exception)
