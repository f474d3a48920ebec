"""Curated pairs are read by those who train on them: OpenCLIP's own WebDataset pipeline and Hugging Face `datasets`."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from curate_samples import figure, texture

from pathasst.curate import pipeline
from pathasst.curate.settings import CurateSettings
from pathasst.dataset import to_webdataset


@pytest.fixture
def pairs(figures_dataset, tmp_path):
    words = ("Clear cell carcinoma of the kidney with necrosis.", "Villous adenoma of the colon with dysplasia in the glands.")
    some = {"00000": [figure(f"f{n}", texture(n), text) for n, text in enumerate(words)]}
    pipeline.run(figures_dataset(some), tmp_path / "pairs", CurateSettings(select="", val=0.0, test=0.0), progress=False)
    return tmp_path / "pairs"


def test_open_clip_reads_the_webdataset(pairs, tmp_path):
    open_clip = pytest.importorskip("open_clip")
    data = pytest.importorskip("open_clip_train.data")
    to_webdataset(pairs, tmp_path / "wds")
    (tar,) = sorted((tmp_path / "wds").glob("*.tar"))
    args = SimpleNamespace(
        train_data=str(tar), val_data=str(tar), train_num_samples=2, val_num_samples=2, dataset_resampled=False, workers=0,
        batch_size=2, world_size=1, seed=0, distributed=False, train_data_upsampling_factors=None,
    )  # fmt: skip
    look = open_clip.image_transform(64, is_train=False)
    loader = data.get_wds_dataset(args, look, is_train=False, tokenizer=open_clip.SimpleTokenizer()).dataloader
    pixels, texts = next(iter(loader))
    assert pixels.shape == (2, 3, 64, 64)
    assert texts.shape == (2, 77)
    read = open_clip.SimpleTokenizer().decode(texts[0].tolist())
    assert "clear cell carcinoma of the kidney" in read


def test_datasets_reads_the_shards(pairs, tmp_path):
    datasets = pytest.importorskip("datasets")
    loaded = datasets.load_dataset("parquet", data_files=str(pairs / "*.parquet"), split="train", cache_dir=str(tmp_path / "hf"))
    assert len(loaded) == 2
    assert loaded[0]["image"].size == (260, 200)
    assert loaded[0]["caption"].startswith("Clear cell carcinoma")
