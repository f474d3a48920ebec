"""Zero-shot and retrieval while training runs, and the curve of a run. Knows tasks, PathCLIP and the log of `train`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pathasst.clip import zeroshot as zs
from pathasst.clip.retrieval import retrieve
from pathasst.core.errors import BadDataset

if TYPE_CHECKING:
    from pathasst.clip.model import PathCLIP


class Watch:
    """Macro F1 of zero-shot tasks and R@10 of retrieval on one split, measured again and again on the same pictures.

    >>> watch = Watch(["out/pairs"], "embedded")
    >>> watch(clip)   # {"LC25000 lung F1": 0.91, …, "text to image R@10": 0.4}
    """

    def __init__(self, folders: Sequence[Path | str], tasks: str = "embedded", split: str = "val") -> None:
        pictures = [p for f in folders for p in zs.labelled(f, [split])]
        self.folders, self.split = list(folders), split
        found = [(task, zs.examples_of_pairs(pictures, task)) for task in zs.load_tasks(tasks).values()]
        self.tasks = [(task, examples) for task, examples in found if len({e.label for e in examples}) > 1]

    def __call__(self, clip: PathCLIP) -> dict[str, float]:
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


def draw_log(log: Path, size: tuple[int, int] = (760, 420)) -> Any:
    """The run's loss (grey) and its scores over the steps, as a PIL picture."""
    from PIL import Image, ImageDraw

    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    picture = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(picture)
    left, right, top, bottom = 50, size[0] - 220, 20, size[1] - 40
    draw.rectangle((left, top, right, bottom), outline="grey")
    last = max((line["step"] for line in lines), default=1)
    highest = max((line["loss"] for line in lines), default=1.0)
    curves = {f"loss (0 … {highest:.1f})": [(line["step"], line["loss"] / highest) for line in lines]}
    for line in lines:
        for name, value in line.get("scores", {}).items():
            curves.setdefault(name, []).append((line["step"], value))
    colours = ["#777777", "#1b6ca8", "#c0392b", "#27864a", "#8e44ad", "#b9770e", "#0e8c8c", "#d35400", "#5b2c6f", "#7d6608"]
    for n, (name, points) in enumerate(curves.items()):
        colour = colours[n % len(colours)]
        places = [(left + s / last * (right - left), bottom - v * (bottom - top)) for s, v in points]
        draw.line(places, fill=colour, width=2)
        draw.text((right + 8, top + 18 * n), name, fill=colour)
    draw.text((left, bottom + 8), "0", fill="black")
    draw.text((right - 60, bottom + 8), f"step {last}", fill="black")
    return picture
