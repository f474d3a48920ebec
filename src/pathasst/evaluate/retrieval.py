"""Image ↔ text retrieval (Figure 4) as a table with its curve, beside the paper's numbers. Knows pairs and the `clip` room."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pathasst.evaluate.sets import find
from pathasst.evaluate.table import Table

if TYPE_CHECKING:
    from pathasst.clip.model import DualEncoder

PAPER = {
    "OpenAI CLIP": {"PubMed": (3.1, 8.0), "books": (7.2, 22.7)},
    "PLIP": {"PubMed": (3.0, 8.9), "books": (17.5, 45.8)},
    "PathCLIP": {"PubMed": (33.2, 56.9), "books": (41.6, 72.7)},
}
"""R@10 and R@50 of the paper's Figure 4, on its 12,430 PubMed pairs and 973 book pairs."""
SETS = {"PubMed": "pubmed-pairs", "books": "book-pairs"}


def evaluate(
    clip: DualEncoder,
    name: str,
    root: Path | None,
    pairs: Sequence[Path] = (),
    split: Sequence[str] = ("test",),
    composed: bool = False,
) -> Table:
    """Figure 4 for one model, both directions. Raises BadDataset when no set of pairs is there."""
    from pathasst.clip import retrieval
    from pathasst.core.errors import BadDataset

    columns = ["model", "pairs", "direction", "queries", "among", *(f"R@{k}" for k in retrieval.KS)]
    table = Table(id="retrieval", title=f"Retrieval: {name}", columns=columns, section="Figure 4", seed=0)
    sets: dict[str, tuple[list[Path], Sequence[str]]] = {"given pairs": (list(pairs), split)} if pairs else {}
    missing = []
    for title, id in SETS.items():
        try:
            # books that were never trained on are a test set as a whole; of PubMed pairs only the split is
            sets[title] = ([find(root, id)], split if id == "pubmed-pairs" else ("train", "val", "test"))
        except BadDataset as error:
            missing += [str(error)] if root or not pairs else []
    curves = {}
    for title, (folders, splits) in sets.items():
        recalls = retrieval.retrieve(clip, folders, splits, composed=composed)
        curves[title] = recalls
        for r in recalls:
            table.add(name, title, r.direction, r.queries, r.items, *(r.at.get(k) for k in retrieval.KS))
        table.notes.append(f"{title}: {recalls[0].too_long} captions over {retrieval.LONGEST} tokens left out.")
    if not curves:
        raise BadDataset("no pairs to retrieve were found.\n" + "\n".join(missing) + "\nOr give --pairs, a dataset of pairs.")
    table.pictures["Recall over k"] = retrieval.draw_curve(curves)
    for model, scores in PAPER.items():
        for title, (ten, fifty) in scores.items():
            table.add(f"paper: {model}", title, None, None, None, None, None, ten / 100, fifty / 100)
    counts = [row[1] for row in table.rows]
    table.rows.sort(key=lambda row: counts.index(row[1]))  # the paper's rows of a set below ours
    table.notes += ["95 % intervals, bootstrap by article or original. Recall depends on how many items there are.", *missing]
    return table
