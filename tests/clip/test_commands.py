"""The commands, run in this process on a tiny model: they find their rooms and say what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from pathasst.cli import clip as commands
from pathasst.clip.build import ClipConfig, build
from pathasst.clip.model import PathCLIPModel
from pathasst.core.errors import BadSettings


@pytest.fixture
def model(tiny: dict, tmp_path: Path) -> str:
    torch.manual_seed(0)
    config = ClipConfig(tiny)
    PathCLIPModel(build(config), config).save(tmp_path / "model")
    return str(tmp_path / "model")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for n in range(3):
        Image.fromarray(np.full((70, 80, 3), 60 * n, np.uint8)).save(folder / f"{n}.png")
    return folder


def call(*words: str) -> str:
    result = CliRunner().invoke(commands.app, list(words), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_classify_and_search(model: str, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATHASST_CACHE", str(tmp_path / "cache"))
    assert "2.png" in "".join(call("classify", str(pictures / "2.png"), "-p", "dark", "-p", "light", "-m", model).split())
    sheet = tmp_path / "sheet.png"
    assert "contact sheet" in call("search", str(pictures), "dark", "-m", model, "-k", "2", "--sheet", str(sheet))
    assert Image.open(sheet).height > 200
    call("embed", str(pictures), "--out", str(tmp_path / "v.npz"), "-m", model)
    assert np.load(tmp_path / "v.npz")["vectors"].shape == (3, 32)


def test_convert_writes_what_transformers_loads(model: str, tmp_path: Path) -> None:
    from transformers import CLIPModel, CLIPVisionModel

    assert "quick_gelu" in call("convert", model, str(tmp_path / "hf"))
    call("convert", model, str(tmp_path / "vision"), "--to", "vision")
    assert CLIPModel.from_pretrained(tmp_path / "hf").config.vision_config.hidden_act == "quick_gelu"
    assert CLIPVisionModel.from_pretrained(tmp_path / "vision").config.patch_size == 16
    assert json.loads((tmp_path / "hf" / "preprocessor_config.json").read_text())["crop_size"] == {"height": 64, "width": 64}
    with pytest.raises(BadSettings, match="choose huggingface"):
        call("convert", model, str(tmp_path / "x"), "--to", "onnx")


def test_compose_wants_a_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PATHASST_DATA", raising=False)
    with pytest.raises(BadSettings, match="PATHASST_DATA"):
        call("compose", "--out", str(tmp_path))
