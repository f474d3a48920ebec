"""Pairs made on the spot: drawn pictures with captions of every kind of source."""

from __future__ import annotations

import io
from pathlib import Path
from random import Random

from PIL import Image

from pathasst import dataset
from pathasst.core.records import Pair, Source

LABELLED = {
    "he": ("Histology set", "An H&E image of lung adenocarcinoma.", "lung_aca"),
    "ihc": ("Stain set", "This immunohistochemistry picture shows Ki-67 staining with brown and blue nuclei.", "ki67"),
    "cytology": ("Liquid-based cytology set", "A liquid-based cytology preparation showing HSIL.", "HSIL"),
    "blood": ("Blood set", "A Giemsa stained peripheral blood smear showing a neutrophil.", "neutrophil"),
}
ARTICLE = (
    "Photomicrograph of the colon stained with hematoxylin and eosin. There is necrosis beside irregular glands of "
    "adenocarcinoma that infiltrate the muscularis. No granuloma is seen in 12 fields."
)


def picture(seed: int) -> bytes:
    """A small PNG of one colour."""
    rng, buffer = Random(seed), io.BytesIO()
    Image.new("RGB", (16, 16), tuple(rng.randrange(256) for _ in range(3))).save(buffer, "PNG")
    return buffer.getvalue()


def labelled(domain: str, number: int = 0, split: str = "train") -> Pair:
    """A pair composed from a class label."""
    title, caption, label = LABELLED[domain]
    return Pair(
        pair_id=f"{domain}:{split}:{number}",
        source=Source(article_id=domain, kind="labels", title=title, licence="CC0-1.0"),
        image=picture(number),
        caption=caption,
        label=label,
        group=f"{domain}-{split}-{number}",
        split=split,
    )


def article(number: int = 0, caption: str = ARTICLE, **changes: object) -> Pair:
    """A pair of an article's figure."""
    values = {
        "pair_id": f"PMC{number}/F1:1",
        "source": Source(article_id=f"PMC{number}.1"),
        "image": picture(number),
        "caption": caption,
    }
    return Pair(**{**values, **changes})  # type: ignore[arg-type]


def some_pairs() -> list[Pair]:
    """Labelled pairs of four kinds in three splits, and articles."""
    pairs = [labelled(d, n, s) for d in LABELLED for s, count in (("train", 4), ("val", 1), ("test", 2)) for n in range(count)]
    return pairs + [article(n) for n in range(4)] + [article(9, "Too short a caption.")]


def write_pairs(folder: Path, pairs: list[Pair] | None = None, shards: int = 2) -> Path:
    """The pairs as a finished dataset."""
    pairs = some_pairs() if pairs is None else pairs

    def work(unit: dataset.Unit) -> list[Pair]:
        return pairs[int(unit.key) :: shards]

    dataset.run_stage(
        folder, stage="sample", record=Pair, units=[dataset.Unit(str(n)) for n in range(shards)], work=work, progress=False
    )
    return folder
