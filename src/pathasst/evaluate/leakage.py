"""Leakage: how much of an evaluation set stands in training pairs already. Knows pairs; `curate.leakage` does the comparing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pathasst.evaluate.asking import bar
from pathasst.evaluate.table import Table


def evaluate(pairs: Path, sets: Sequence[Path], *, bits: int = 6) -> Table:
    """Findings per evaluation set and test. Raises BadSettings for a set that holds nothing, BadDataset for bad pairs."""
    from pathasst.core.errors import BadInput
    from pathasst.core.records import Pair
    from pathasst.curate.leakage import index_of
    from pathasst.dataset import count, read
    from pathasst.imaging.pictures import load

    table = Table(
        id="leakage", title="Training pairs that repeat an evaluation set", columns=["set", "by", "pairs", "of", "share"]
    )
    total = count(pairs)
    for source in sets:
        index, near, unreadable = index_of([source], bits=bits), Counter[str](), 0
        with bar(f"leakage, {source.name}", total) as progress:
            for pair in read(pairs, Pair):
                try:
                    picture = load(pair.image) if pair.image else None
                except BadInput:
                    picture, unreadable = None, unreadable + 1
                for leak in index.check(picture, pair.original or pair.caption):
                    near[leak.by] += 1
                    if len(table.items) < 1000:
                        table.items.append({"id": pair.pair_id, "part": leak.by, "said": leak.name, "score": leak.score})
                progress(1)
        for by in ("hash", "text"):
            table.add(source.name, by, near[by], total, near[by] / total if total else None)
        if unreadable:
            table.notes.append(f"{source.name}: {unreadable} pictures of pairs could not be read.")
    table.notes.append(f"hash: perceptual hash within {bits} bits in eight orientations; text: shared runs of eight words.")
    table.data = str(pairs)
    return table
