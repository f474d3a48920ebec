"""Leave-one-dataset-out: train without a set, then classify that set by words alone.

Knows a locked tower (LiT), zero-shot tasks and baselines. The recipe (`recipes/*/clip_leave_out.yaml`) says which sources belong
together and which tasks they answer. The tower saw nothing of any set, and its features are computed once, so that a run is a
matter of seconds. To leave sources out of a training of any kind: `pathasst train clip --leave-out`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from pathasst.clip import zeroshot as zs
from pathasst.clip.baselines import ColourWords, chance, histogram, trunk_features
from pathasst.clip.captions import Captions
from pathasst.clip.data import Pictures, load_pictures, sampling
from pathasst.clip.lit import FILE, compute_lit_features, standardise
from pathasst.clip.model import PathCLIPModel
from pathasst.clip.settings import ClipTraining
from pathasst.clip.task import ClipTask
from pathasst.clip.train import initial
from pathasst.core.errors import BadSettings
from pathasst.core.recipes import recipe_path
from pathasst.core.settings import Field, Settings
from pathasst.core.statistics import Interval
from pathasst.training import fit

RESULTS = "leave_one_out.json"


class LeftOutSet(Settings):
    """Sources that belong together, and the tasks that they answer."""

    sources: tuple[str, ...]
    tasks: tuple[str, ...]


class LeaveOutRecipe(Settings):
    """Which sets are left out, and how the short trainings differ from the recipe `base`."""

    room: ClassVar[str] = "clip_leave_out"

    base: str = Field(
        default="embedded", description="Recipe of `train clip` with a locked tower, or a YAML file beside this one."
    )
    tasks: str = Field(default="embedded", description="Recipe of zero-shot tasks.")
    changes: dict[str, Any] = Field(default={}, description="Settings that differ from those of `base`.")
    sets: dict[str, LeftOutSet] = Field(default={}, description="Name → what is left out.")

    @classmethod
    def load(cls, recipe: str | Path = "embedded", overrides: Iterable[str] = (), **changes: Any) -> Self:  # type: ignore[override]
        """As `Settings.load`; a YAML file as `base` is looked for beside the recipe."""
        settings = super().load(recipe, overrides, **changes)
        beside = recipe_path(cls.room, str(recipe)).parent / settings.base
        return settings.replace(base=str(beside)) if settings.base.endswith((".yaml", ".yml")) else settings


@dataclass(frozen=True, slots=True)
class LeftOutScores:
    """One task of a set that was left out; macro F1 on all its pictures."""

    name: str
    task: str
    n: int
    clusters: int
    zero_shot: Interval  # single prompts
    ensemble: Interval
    colour: Interval  # `ColourWords`
    untrained: Interval  # the same tower with fresh projections
    chance: float

    @property
    def above(self) -> bool:
        """Whether the interval of zero-shot lies above those of the baselines, without touching (chance is a point)."""
        best = max((self.zero_shot, self.ensemble), key=lambda i: i.low)
        return best.low > max(self.colour.high, self.untrained.high, self.chance)


def leave_one_out(
    recipe: LeaveOutRecipe,
    data: Sequence[Path | str],
    out: Path | str,
    *,
    only: Sequence[str] = (),
    report: Callable[[LeftOutScores], None] | None = None,
) -> list[LeftOutScores]:
    """Train once for each set without its sources and measure its tasks on all of its pictures.

    Writes `leave_one_out.json` in `out` as the sets are done, and keeps the tower's features there.
    Raises BadSettings for an unknown set or task, or a recipe without a locked tower.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    tasks = zs.load_tasks(recipe.tasks)
    if unknown := (set(only) - set(recipe.sets)) | {t for s in recipe.sets.values() for t in s.tasks} - set(tasks):
        raise BadSettings(f"no set or task is called {', '.join(sorted(unknown))}.")
    settings = ClipTraining.load(recipe.base, **{**recipe.changes, "data": [str(d) for d in data]})
    if settings.unlocked:
        raise BadSettings(f"{recipe.base}: leave-one-out needs a locked tower (unlocked: 0).")
    bench = _Bench(settings, out)
    results: list[LeftOutScores] = []
    for name, one in recipe.sets.items():
        if only and name not in only:
            continue
        for left in bench.measure(name, one.sources, [tasks[t] for t in one.tasks]):
            results.append(left)
            if report:
                report(left)
        (out / RESULTS).write_text(json.dumps([asdict(f) for f in results], indent=1), encoding="utf-8")
    return results


class _Bench:
    """What all runs share: pictures, captions, features."""

    def __init__(self, settings: ClipTraining, out: Path) -> None:
        import torch

        self.settings, self.out = settings.replace(workers=0), out  # a step takes milliseconds
        if settings.threads:
            torch.set_num_threads(settings.threads)
        self.pictures = load_pictures(settings.data, settings.splits, settings.cache_side)
        model, config = initial(settings)
        self.texts = Captions(model, config, self.pictures.texts)
        look = (settings.views, settings.smallest, settings.stain, settings.seed)
        trunk: Any = model.eval().visual.trunk  # type: ignore[union-attr]
        self.lit_features = compute_lit_features(trunk, config, self.pictures.images, *look, out / FILE)
        self.colours = np.stack([histogram(s.pixels) for s in self.pictures.images])

    def measure(self, name: str, sources: Sequence[str], tasks: list[zs.ZeroShotTask]) -> Iterable[LeftOutScores]:
        import torch

        training_pictures, rows = self.pictures.without(sources)
        torch.manual_seed(self.settings.seed)
        (model, config), (untrained, _) = initial(self.settings), initial(self.settings)
        for fresh in (model, untrained):
            standardise(fresh, self.lit_features[rows])
        before = PathCLIPModel(untrained, config)
        training = ClipTask(
            self.settings, model, config, training_pictures, self.texts.beside(model), lit_features=self.lit_features[rows]
        )
        fit(training, self.settings, self.out / name.replace(" ", "-")).remove_checkpoints()
        clip = PathCLIPModel(model, config)
        pictures = [p for d in self.settings.data for p in zs.labelled(d, ["train", "val", "test"])]
        pictures = [p for p in pictures if p.source.article_id in sources]
        words = self._colour_words(clip, training_pictures, rows)
        for task in tasks:
            examples = zs.examples_of_pairs(pictures, task)
            features = trunk_features(clip.model.visual.trunk, config, (e.picture() for e in examples))  # type: ignore[union-attr]
            one, many, random = (
                zs.run(c, task, examples, _project(c, features), ensemble=e).scores
                for c, e in ((clip, False), (clip, True), (before, False))
            )
            by_colour = words.scores(task, examples, clip.encode_classes(task.prompts))
            zero_shot, ensemble, colour, unlearnt = (s.macro_f1 for s in (one, many, by_colour, random))
            yield LeftOutScores(
                name, task.name, one.n, one.clusters, zero_shot, ensemble, colour, unlearnt, chance(task, examples)
            )

    def _colour_words(self, clip: PathCLIPModel, training_pictures: Pictures, rows: np.ndarray) -> ColourWords:
        import torch

        with torch.inference_mode():  # the first window of each caption
            embedded = self.texts.beside(clip.model).encode([w[0] for w in self.texts.windows]).numpy()
        text_embeddings = np.stack(
            [embedded[training_pictures.captions(n)].mean(axis=0) for n in range(len(training_pictures.images))]
        )
        return ColourWords(self.colours[rows], text_embeddings, sampling(training_pictures.images, self.settings.balance))


def _project(clip: PathCLIPModel, features: np.ndarray) -> np.ndarray:
    """Features of the trunk → unit embeddings, float32."""
    import torch

    with torch.inference_mode():
        embedded: np.ndarray = clip.model.visual.head(torch.from_numpy(features)).numpy()  # type: ignore[union-attr, operator]
    return embedded / np.linalg.norm(embedded, axis=1, keepdims=True)


def markdown(results: Sequence[LeftOutScores]) -> str:
    """The results as a table."""
    lines = [
        "| left out | task | n (originals) | single prompt | ensemble | colour words | untrained | chance | above all |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for f in results:
        cells = [f.name, f.task, f"{f.n} ({f.clusters})", f.zero_shot, f.ensemble, f.colour, f.untrained, f"{f.chance:.3f}"]
        lines.append("| " + " | ".join(map(str, cells)) + f" | {'yes' if f.above else 'no'} |")
    return "\n".join(lines)
