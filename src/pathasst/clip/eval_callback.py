"""Zero-shot and retrieval while training runs. Knows tasks and PathCLIP."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pathasst.clip import zeroshot as zs
from pathasst.clip.retrieval import retrieve
from pathasst.core.errors import BadDataset

if TYPE_CHECKING:
    from pathasst.clip.model import PathCLIPModel


class ValScores:
    """Macro F1 of zero-shot tasks and R@10 of retrieval on one split, measured again and again on the same pictures.

    >>> scores = ValScores(["out/pairs"], "embedded")
    >>> scores(clip)   # {"LC25000 lung F1": 0.91, …, "text to image R@10": 0.4}
    """

    def __init__(self, folders: Sequence[Path | str], tasks: str = "embedded", split: str = "val") -> None:
        pictures = [p for f in folders for p in zs.labelled(f, [split])]
        self.folders, self.split = list(folders), split
        examples = [(task, zs.examples_of_pairs(pictures, task)) for task in zs.load_tasks(tasks).values()]
        self.tasks = [(task, some) for task, some in examples if len({e.label for e in some}) > 1]

    def __call__(self, clip: PathCLIPModel) -> dict[str, float]:
        """Macro F1 with the single prompts, for tasks of which the split has two classes or more, and R@10 in both directions.

        Captions composed from labels are true of many pictures and do not count for retrieval.
        """
        scores = {}
        for task, examples in self.tasks:
            features, read = zs.embed(clip, examples)
            scores[f"{task.name} F1"] = zs.run(clip, task, read, features).scores.macro_f1.value
        with suppress(BadDataset):  # a split without captions of its own
            scores |= {f"{r.direction} R@10": r.at[10].value for r in retrieve(clip, self.folders, [self.split], ks=(10,))}
        return {name: round(value, 4) for name, value in scores.items()}
