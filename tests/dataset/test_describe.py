"""Croissant metadata and the data card: what they say is what the shards hold."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pathasst.cli.main import app
from pathasst.core.records import Pair, Source
from pathasst.dataset import Dropped, Unit, run_stage


@pytest.fixture
def folder(tmp_path: Path, png: bytes) -> Path:
    codes = ["CC-BY-4.0", "CC-BY-4.0", "CC0-1.0"]
    rows = [
        Pair(pair_id=str(n), source=Source(article_id="a", licence=code), image=png, caption=f"gland {n}", split=split)
        for n, (code, split) in enumerate(zip(codes, ["train", "val", "train"], strict=True))
    ]
    made = tmp_path / "my pairs"
    run_stage(
        made, stage="t", record=Pair, units=[Unit("00000")], work=lambda _: [*rows, Dropped("x", "blurred")], progress=False
    )
    assert CliRunner().invoke(app, ["dataset", "describe", str(made)]).exit_code == 0
    return made


def test_croissant_names_the_shards_and_their_columns(folder: Path) -> None:
    croissant = json.loads((folder / "croissant.json").read_text())
    files = [d for d in croissant["distribution"] if d["@type"] == "cr:FileObject"]
    assert [f["sha256"] for f in files] == [hashlib.sha256((folder / f["contentUrl"]).read_bytes()).hexdigest() for f in files]
    fields = {f["name"]: f for f in croissant["recordSet"][0]["field"]}
    assert fields["rows/image"]["dataType"] == "sc:ImageObject"
    assert fields["rows/source.licence"]["source"]["extract"] == {"column": "source"}
    assert "rows/trail" not in fields  # Croissant has no lists of records


def test_croissant_is_read_by_mlcroissant(folder: Path) -> None:
    mlc = pytest.importorskip("mlcroissant")
    rows = list(mlc.Dataset(jsonld=str(folder / "croissant.json")).records("rows"))
    assert [r["rows/caption"] for r in rows] == [b"gland 0", b"gland 1", b"gland 2"]
    assert rows[0]["rows/image"].size == (8, 8)


def test_the_card_is_read_by_datasets(folder: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))["train"]
    assert rows["caption"][:] == ["gland 0", "gland 1", "gland 2"]
    card = (folder / "README.md").read_text()
    assert "| CC-BY-4.0 | 2 |" in card
    assert "| val | 1 |" in card
    assert "| blurred | 1 |" in card
    assert "license: other" in card  # the rows differ
