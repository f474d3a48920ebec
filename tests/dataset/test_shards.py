"""`validate` finds every kind of damage, and other readers load the shards."""

from __future__ import annotations

from pathlib import Path

import pytest

from pathasst import dataset
from pathasst.core.errors import BadDataset
from pathasst.core.records import Figure, Pair, Source
from pathasst.dataset import Unit


@pytest.fixture
def pairs(tmp_path: Path, png: bytes) -> Path:
    def work(unit: Unit) -> list[Pair]:
        source = Source(article_id="a", licence="CC-BY-4.0" if unit.key == "00000" else "CC-BY-NC-4.0")
        return [Pair(pair_id=f"{unit.key}-{n}", source=source, image=png, caption=f"caption {n}") for n in range(3)]

    folder = tmp_path / "pairs"
    dataset.run_stage(folder, stage="t", record=Pair, units=[Unit("00000"), Unit("00001")], work=work, progress=False)
    return folder


def test_sound_dataset_has_no_faults(pairs: Path) -> None:
    assert dataset.validate(pairs, Pair) == []
    assert dataset.count(pairs) == 6


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (lambda f: (f / "00001.parquet").unlink(), "missing"),
        (lambda f: (f / "00001.parquet").write_bytes(b"PAR1"), "sha256"),
    ],
)
def test_damage_is_found(pairs: Path, damage, fault: str) -> None:
    damage(pairs)
    assert fault in dataset.validate(pairs, Pair)[0]


def test_wrong_record_type_and_unfinished_folder(pairs: Path, tmp_path: Path) -> None:
    with pytest.raises(BadDataset, match="holds Pair"):
        dataset.validate(pairs, Figure)
    with pytest.raises(BadDataset, match="Run the stage"):
        dataset.count(tmp_path)
    (pairs / "manifest.json").write_text("{")
    with pytest.raises(BadDataset, match="damaged"):
        dataset.count(pairs)


def test_hugging_face_datasets_decodes_the_pictures(pairs: Path) -> None:
    datasets = pytest.importorskip("datasets")
    loaded = datasets.load_dataset("parquet", data_files=str(pairs / "*.parquet"), split="train", cache_dir=str(pairs / "hf"))
    assert loaded[0]["image"].size == (8, 8)
    assert loaded[0]["source"]["licence"] == "CC-BY-4.0"


def test_reading_some_columns(pairs: Path) -> None:
    record = next(dataset.read(pairs, Pair, columns=["pair_id", "source", "caption"]))
    assert (record.caption, record.image) == ("caption 0", b"")
