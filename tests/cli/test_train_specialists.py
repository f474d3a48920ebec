"""`pathasst train classifier`, `detector` and `generator` as a person calls them, on pictures made on the spot."""

import json

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from pathasst.cli.train import app
from pathasst.core import weights
from pathasst.core.errors import BadDataset

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
    run = CliRunner().invoke(
        app, ["classifier", str(tmp_path / "set"), "--out", str(tmp_path / "out"), "--set", "minutes=0.0001"]
    )
    assert run.exit_code == 0, run.output
    assert "test: macro F1" in run.output
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())["scores"]
    assert scores["test"]["macro_f1"]["value"] == 1  # the probe alone tells red from blue


@pytest.mark.parametrize("options", [[], ["--stable", "nowhere"]])
def test_a_folder_without_sentences_is_refused(tmp_path, options):
    run = CliRunner().invoke(app, ["generator", str(tmp_path), "--out", str(tmp_path / "out"), *options])
    assert isinstance(run.exception, BadDataset) and "metadata" in str(run.exception)


def test_boxes_become_a_detector_that_is_measured(tmp_path):
    from pathasst.cli.tools import app as tools

    rows = ["image,xmin,ymin,xmax,ymax,label,split"]
    for n in range(4):
        pixels = np.full((64, 64, 3), 230, np.uint8)
        cv2.circle(pixels, (20 + 6 * n, 30), 10, (200, 40, 40), -1)
        cv2.imwrite(str(tmp_path / f"{n}.png"), pixels)
        rows.append(f"{n}.png,{10 + 6 * n},20,{31 + 6 * n},41,WBC,{'train' if n < 2 else 'val' if n < 3 else 'test'}")
    (tmp_path / "boxes.csv").write_text("\n".join(rows) + "\n")
    model = {"classes": ["WBC", "RBC"], "channels": 32, "blocks": 1, "size": 64, "scale": 1.0, "overlap": 32}
    data = [{"boxes": "boxes.csv", "splits": {"val": "val"}}]
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({"model": model, "data": data, "start": "", "frozen": "none", "batch": 2, "crop": 64}))
    run = CliRunner().invoke(app, ["detector", str(recipe), "--out", str(tmp_path / "out"), "--set", "steps=2"])
    assert run.exit_code == 0, run.output
    assert "AP@0.5" in run.output and (tmp_path / "out/model.safetensors").is_file()
    measured = ["evaluate", "blood_cells", str(tmp_path / "boxes.csv"), "--split", "test", "--model", str(tmp_path / "out")]
    run = CliRunner().invoke(tools, [*measured, "--out", str(tmp_path / "scores.json")])
    assert run.exit_code == 0, run.output
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["pictures"] == 1 and {"value", "low", "high"} <= scores["map50"].keys()


@pytest.mark.skipif(not weights.present("minilm"), reason="MiniLM is not here: pathasst models pull minilm")
def test_sentences_become_a_generator(tmp_path):
    lines = []
    for n in range(2):
        Image.fromarray(np.full((64, 64, 3), 90 + 80 * n, np.uint8)).save(tmp_path / f"{n}.png")
        lines.append(json.dumps({"file_name": f"{n}.png", "text": ["a dark cell", "a pale cell"][n]}))
    (tmp_path / "metadata.jsonl").write_text("\n".join(lines))
    run = CliRunner().invoke(
        app, ["generator", str(tmp_path), "--out", str(tmp_path / "out"), "--set", "steps=1", "--set", "minutes=0"]
    )
    assert run.exit_code == 0, run.output
    assert (tmp_path / "out/model.safetensors").is_file()
