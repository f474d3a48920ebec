"""Leave-one-dataset-out: train without a set, then classify that set by words alone.

Knows recipes of training, zero-shot tasks and baselines. The recipe (`recipes/*/clip_leave_out.yaml`) says which sources belong
together and which tasks they answer. Short trainings start from a tower that was only taught by distillation, so that the runs
differ in nothing but the captions.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pathasst.clip import zeroshot as zs
from pathasst.clip.baselines import ColourWords, chance
from pathasst.clip.build import build
from pathasst.clip.data import Pictures, load_pictures, sampling
from pathasst.clip.model import PathCLIP
from pathasst.clip.train import ClipRecipe, train
from pathasst.errors import BadSettings
from pathasst.intervals import Interval
from pathasst.recipes import load_recipe

RESULTS = "leave_one_out.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaveOutRecipe:
    """Which sets are left out, and how the short trainings differ from the recipe `base`."""

    base: str = "embedded"  # recipe of `train clip`
    changes: dict[str, Any] = field(default_factory=dict)  # of its settings
    sets: dict[str, dict[str, list[str]]] = field(default_factory=dict)  # name → {sources: […], tasks: […]}

    def __post_init__(self) -> None:
        for name, one in self.sets.items():
            if set(one) != {"sources", "tasks"}:
                raise BadSettings(f"{name}: a set that is left out has `sources` and `tasks`.")

    @classmethod
    def load(cls, recipe: Path | str = "embedded") -> LeaveOutRecipe:
        return load_recipe("clip_leave_out", str(recipe), cls)


@dataclass(frozen=True, slots=True)
class Left:
    """One task of a set that was left out; macro F1 on all its pictures."""

    name: str
    task: str
    n: int
    clusters: int
    zero_shot: Interval  # single prompts
    ensemble: Interval
    colour: Interval  # `ColourWords`
    untrained: Interval
    chance: float

    @property
    def above(self) -> bool:
        """Whether an interval of zero-shot touches none of the baselines' (chance as a point)."""
        best = max((self.zero_shot, self.ensemble), key=lambda i: i.low)
        return best.low > max(self.colour.high, self.untrained.high, self.chance)


def leave_one_out(
    recipe: LeaveOutRecipe,
    data: Sequence[Path | str],
    out: Path | str,
    *,
    init: str = "",
    only: Sequence[str] = (),
    report: Callable[[dict[str, Any]], None] | None = None,
) -> list[Left]:
    """Train once for each set without its sources and measure its tasks on all of its pictures; resumable.

    `init` is the tower to start from (a PathCLIP). Writes `leave_one_out.json` as the sets are done.
    Raises BadSettings for an unknown set or task.
    """
    out = Path(out)
    tasks = zs.load_tasks(recipe.base)
    if unknown := (set(only) - set(recipe.sets)) | {t for s in recipe.sets.values() for t in s["tasks"]} - set(tasks):
        raise BadSettings(f"no set or task is called {', '.join(sorted(unknown))}.")
    found: list[Left] = []
    for name, one in recipe.sets.items():
        if only and name not in only:
            continue
        changes = {**recipe.changes, "data": [str(d) for d in data], "leave_out": one["sources"], "init": init}
        settings = ClipRecipe.load(recipe.base, **changes)
        clip = train(settings, out / name.replace(" ", "_"), report=report)
        found += _measure(name, [tasks[t] for t in one["tasks"]], one["sources"], clip, settings)
        (out / RESULTS).write_text(json.dumps([asdict(f) for f in found], indent=1), encoding="utf-8")
    return found


def _measure(name: str, tasks: list[zs.Task], sources: list[str], clip: PathCLIP, settings: ClipRecipe) -> list[Left]:
    import torch

    pictures = [p for d in settings.data for p in zs.labelled(d, ["train", "val", "test"]) if p.source.article_id in sources]
    torch.manual_seed(settings.seed)
    fresh = PathCLIP(build(clip.config), clip.config)
    colours = _colour_words(clip, load_pictures(settings.data, settings.splits, 128, leave_out=sources), settings)
    found = []
    for task in tasks:
        examples = zs.examples_of_pairs(pictures, task)
        features = clip.encode_image(e.picture() for e in examples)
        one, many = (zs.run(clip, task, examples, ensemble=e, features=features).scores for e in (False, True))
        before = zs.run(fresh, task, examples).scores.macro_f1
        by_colour = colours.scores(task, examples, clip.encode_classes(task.prompts)).macro_f1
        values = (one.macro_f1, many.macro_f1, by_colour, before, chance(task, examples))
        found.append(Left(name, task.name, one.n, one.clusters, *values))
    return found


def _colour_words(clip: PathCLIP, known: Pictures, settings: ClipRecipe) -> ColourWords:
    embedded = clip.encode_text(known.texts)
    said = np.stack([embedded[known.captions(n)].mean(axis=0) for n in range(len(known.shown))])
    return ColourWords((s.pixels for s in known.shown), said, sampling(known.shown, settings.balance))


def markdown(found: Sequence[Left]) -> str:
    """The results as a table."""
    lines = [
        "| left out | task | n (originals) | single prompt | ensemble | colour words | untrained | chance | above all |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for f in found:
        cells = [f.name, f.task, f"{f.n} ({f.clusters})", f.zero_shot, f.ensemble, f.colour, f.untrained, f"{f.chance:.3f}"]
        lines.append("| " + " | ".join(map(str, cells)) + f" | {'yes' if f.above else 'no'} |")
    return "\n".join(lines)
