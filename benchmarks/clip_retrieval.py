"""Image ↔ text retrieval (Figure 4) of the embedded PathCLIP on articles and on a book that it never saw: R@1, 5, 10, 50.

PATHASST_DATA=… python benchmarks/clip_retrieval.py --pairs out/pairs-labels [--recipe YAML] [--curve PNG]

Trains the recipe without the articles and the atlas among its pairs (minutes of a core), then measures all of both:
- PubMed-like: whole figures of the articles with their whole captions
- unseen book: pictures of the atlas, each with its two captions
Captions of more than 77 tokens are left out, as in the paper. Intervals draw articles or pictures. Chance: a random order.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from measured import command_line, save
from PIL import Image

from pathasst.clip.retrieval import KS, Recalls, draw_curve, retrieve
from pathasst.clip.settings import ClipTraining
from pathasst.clip.train import train
from pathasst.core import recipes
from pathasst.core.records import Pair, Source
from pathasst.curate import label_pairs
from pathasst.dataset import Unit, run_stage

SOURCES = ["articles", "book_atlas"]  # left out of the training


def figures(folder: Path) -> Iterator[Pair]:
    """Every figure of the articles with its caption."""
    for row in json.loads((folder / "figures.json").read_text(encoding="utf-8")):
        path = folder / "figures" / row["image"]
        image = path.read_bytes()
        with Image.open(path) as opened:
            width, height = opened.size
        yield Pair(
            pair_id=f"{row['pmcid']}/{row['fig_id']}",
            source=Source(article_id=row["pmcid"], kind="article"),
            image=image,
            md5=hashlib.md5(image).hexdigest(),
            width=width,
            height=height,
            caption=row["caption_jats"],
            group=row["pmcid"],
            split="test",
        )


def main() -> None:
    """Train, measure, print."""
    parser = command_line(__doc__)
    parser.add_argument("--pairs", required=True)
    parser.add_argument("--recipe", default=str(recipes.recipes_dir() / "embedded" / "clip_lite.yaml"))
    parser.add_argument("--features", default="", help="file of the locked tower's features, if a run has left one")
    parser.add_argument("--curve", type=Path, help="PNG of recall over k")
    given, data = parser.parse_args(), Path(os.environ["PATHASST_DATA"])
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        recipe = ClipTraining.load(given.recipe, data=[given.pairs], leave_out=SOURCES, features=given.features)
        clip = train(recipe, out / "clip")
        run_stage(
            out / "figures", stage="labels", record=Pair, units=[Unit("articles")],
            work=lambda _: list(figures(data / "articles")), progress=False,
        )  # fmt: skip
        label_pairs.compose(label_pairs.LabelRecipe.load("embedded"), data, out / "book", only=["book_atlas"])
        found = {
            "PubMed-like": retrieve(clip, [out / "figures"], ["test"]),
            "unseen book": retrieve(clip, [out / "book"], ["train", "val", "test"]),
        }
    if given.curve:
        given.curve.write_bytes(draw_curve(found))
    rows = [_row(name, recalls) for name, both in found.items() for recalls in both]
    print(json.dumps(rows, default=str, indent=1))
    save(given.json, {f"{r['set']}, {r['direction']}": r for r in rows} | {"table": _table(rows)})


def _row(name: str, recalls: Recalls) -> dict[str, Any]:
    """One direction of one set."""
    counts = {"queries": recalls.queries, "items": recalls.items, "captions too long": recalls.too_long}
    at = {f"R@{k}": recalls.at[k] for k in KS}
    return {"set": name, "direction": recalls.direction, **counts, **at, "chance R@10": recalls.chance[10]}


def _table(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {"columns": list(rows[0]), "rows": [list(r.values()) for r in rows]}


if __name__ == "__main__":
    main()
