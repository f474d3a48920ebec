"""Zero-shot classification (Table 2): pictures with labels, prompts per class, scores with intervals.

Knows prompts, the public folder layouts of the paper's test sets, and PathCLIP; does not train. Each task has the authors'
prompts (one a class) and an ensemble (templates × names), whose mean embedding is used.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import softmax

from pathasst.clip import pictures
from pathasst.clip.scores import ClassificationScores, class_scores
from pathasst.core.errors import BadDataset, BadSettings
from pathasst.core.recipes import read_recipe
from pathasst.core.records import Pair
from pathasst.dataset import read
from pathasst.imaging.pictures import SUFFIXES, load

if TYPE_CHECKING:
    from pathasst.clip.model import DualEncoder

ORIGINALS = "originals.csv"  # beside pictures that are copies of few originals
FLAGGED = "WSSS4LUAD"  # its classes are in the file names


@dataclass(frozen=True, slots=True)
class ZeroShotTask:
    """Classes with their prompts. `labels` maps what data calls a class (folder name, `Pair.label`) to the class's number."""

    name: str
    classes: list[str]
    prompts: list[str]  # the single prompt of each class
    labels: dict[str, int]
    ensemble: list[list[str]] = field(default_factory=list)  # several prompts of each class; empty: none
    caveat: str = ""


@dataclass(frozen=True, slots=True)
class ZeroShotPicture:
    """A picture to classify: a file, or its bytes."""

    id: str
    label: int
    cluster: str
    source: Path | bytes

    def picture(self) -> np.ndarray:
        """H×W×3 uint8 RGB. Raises BadInput."""
        return load(self.source)


@dataclass(frozen=True, slots=True)
class ZeroShotOutcome:
    """What a zero-shot run gave: scores and every prediction."""

    task: ZeroShotTask
    style: str  # single | ensemble
    scores: ClassificationScores
    ids: list[str]
    truth: np.ndarray  # int [n]
    predicted: np.ndarray  # int [n]
    probabilities: np.ndarray  # float32 [n, classes]

    def row(self) -> dict[str, Any]:
        """One line of a table: plain values."""
        scores = self.scores
        named = {"macro F1": scores.macro_f1, "weighted F1": scores.weighted_f1, "accuracy": scores.accuracy}
        return {"task": self.task.name, "prompts": self.style, "n": scores.n, "clusters": scores.clusters} | {
            k: str(v) for k, v in named.items()
        }


def run(
    clip: DualEncoder, task: ZeroShotTask, examples: Sequence[ZeroShotPicture], features: np.ndarray, *, ensemble: bool = False
) -> ZeroShotOutcome:
    """Classify the examples by their nearest prompts. `features` are their unit embeddings, float32 [n, d] (`embed`).

    Raises BadDataset when there are no examples, BadSettings when an ensemble is asked for and the task has none.
    """
    if not examples:
        raise BadDataset(f"{task.name}: no pictures of its classes were found.")
    if ensemble and not task.ensemble:
        raise BadSettings(f"{task.name} has no prompt ensemble.")
    prompts = clip.encode_classes(task.ensemble if ensemble else task.prompts)
    logits = clip.logit_scale * features @ prompts.T
    probabilities = softmax(logits, axis=1)
    truth, predicted = np.array([e.label for e in examples]), probabilities.argmax(axis=1)
    scores = class_scores(truth, predicted, len(task.classes), [e.cluster for e in examples])
    style = "ensemble" if ensemble else "single"
    return ZeroShotOutcome(task, style, scores, [e.id for e in examples], truth, predicted, probabilities)


def measure(
    clip: DualEncoder, task: ZeroShotTask, examples: Sequence[ZeroShotPicture], report: pictures.Report | None = None
) -> tuple[list[ZeroShotOutcome], list[ZeroShotPicture], list[str]]:
    """The task with single prompts and, if it has one, its ensemble; the examples that could be read; what a reader must know.

    Raises BadDataset when there are no examples.
    """
    features, read = embed(clip, examples, report)
    notes = []
    if broken := len(examples) - len(read):
        notes.append(f"{task.name}: {broken} pictures could not be read and are left out.")
    if missing := absent(task, read):
        notes.append(f"{task.name}: no picture of {', '.join(missing)}; the macro mean is over the other classes.")
    if task.caveat:
        notes.append(f"{task.name}: {task.caveat}")
    styles = [False, True] if task.ensemble else [False]
    return [run(clip, task, read, features, ensemble=e) for e in styles], read, notes


def labelled(folder: Path | str, splits: Sequence[str]) -> list[Pair]:
    """The labelled pictures of a pair dataset, each once; read it once for all tasks."""
    by_md5: dict[str, Pair] = {}
    for pair in read(folder, Pair):
        if pair.label and pair.split in splits:
            by_md5.setdefault(pair.md5, pair)
    return list(by_md5.values())


def examples_of_pairs(pairs: Iterable[Pair], task: ZeroShotTask) -> list[ZeroShotPicture]:
    """Those of the `labelled` pictures that have one of the task's labels."""
    return [ZeroShotPicture(p.pair_id, task.labels[p.label], p.group, p.image) for p in pairs if p.label in task.labels]


def examples_of_folder(folder: Path | str, task: ZeroShotTask, originals: dict[str, str] | None = None) -> list[ZeroShotPicture]:
    """Pictures in the public layout: one folder a class (NCT-CRC-HE-100K, LC25000), or WSSS4LUAD's flags in the file name.

    `originals` maps file names to the original they were augmented from, for the bootstrap; by default `originals.csv` of the
    folder, if it has one. Raises BadDataset, which says what is expected and what is there, when no picture is of a class.
    """
    folder = Path(folder)
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
    if originals is None and (folder / ORIGINALS).is_file():
        originals = read_originals(folder / ORIGINALS)
    labels = ((p, _label(p, task)) for p in paths)
    examples = [
        ZeroShotPicture(str(p.relative_to(folder)), label, (originals or {}).get(p.name, p.name), p)
        for p, label in labels
        if label is not None
    ]
    if not examples:
        raise BadDataset(f"{folder} does not look like {task.name}: {_seen_of(folder, paths)}. Expected: {_expected(task)}.")
    return examples


def _seen_of(folder: Path, paths: list[Path]) -> str:
    if not folder.is_dir():
        return "there is no such folder"
    if not paths:
        return f"it holds no pictures ({', '.join(SUFFIXES)})"
    names = sorted({p.parent.name for p in paths})
    return f"its pictures lie in folders called {', '.join(names[:6])}{' …' if len(names) > 6 else ''}"


def _expected(task: ZeroShotTask) -> str:
    folders = ", ".join(label for label in task.labels if "/" not in label)
    if not folders:
        return f"labelled pairs; {task.name} has no public layout of folders"
    flags = (
        "three flags in each file name (tumour, stroma, normal), such as name-[1, 0, 0].png, or " if task.name == FLAGGED else ""
    )
    return f"{flags}one folder of pictures a class, called {folders}"


def absent(task: ZeroShotTask, examples: Sequence[ZeroShotPicture]) -> list[str]:
    """The classes of which there is no example; the macro mean is over the others."""
    there = {e.label for e in examples}
    return [name for n, name in enumerate(task.classes) if n not in there]


def embed(
    clip: DualEncoder, examples: Sequence[ZeroShotPicture], report: pictures.Report | None = None
) -> tuple[np.ndarray, list[ZeroShotPicture]]:
    """Unit embeddings float32 [n, d] of the examples whose picture can be read, and these."""
    features, rows = pictures.embed(clip, [e.source for e in examples], report)
    return features, [examples[n] for n in rows]


def read_originals(table: Path | str) -> dict[str, str]:
    """A CSV with the columns `image` and `original` → file name to original. Raises BadDataset when it has no such columns."""
    import csv

    with Path(table).open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if not {"image", "original"} <= set(reader.fieldnames or ()):
            raise BadDataset(f"{table} needs the columns image and original.")
        return {Path(row["image"]).name: row["original"] for row in reader}


def _label(path: Path, task: ZeroShotTask) -> int | None:
    flags = re.search(r"\[(\d)[\s,]*\d[\s,]*\d\]", path.name) if task.name == FLAGGED else None
    if flags:
        return task.labels["tumor" if flags[1] == "1" else "normal"]
    return task.labels.get(path.parent.name)


def load_tasks(path: Path | str = "embedded") -> dict[str, ZeroShotTask]:
    """Tasks of a recipe, by name or YAML path. Raises BadSettings.

    A task is `name: {templates, classes: {name: {prompt, names, labels}}, caveat}`.
    """
    stored = read_recipe("clip_zeroshot", str(path))
    try:
        return {name: _task(name, entry) for name, entry in stored.items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise BadSettings(f"{path} is no list of zero-shot tasks: {error!r}") from error


def _task(name: str, entry: dict[str, Any]) -> ZeroShotTask:
    classes = entry["classes"]
    templates = entry.get("templates", [])
    return ZeroShotTask(
        name=name,
        classes=list(classes),
        prompts=[c["prompt"] for c in classes.values()],
        labels={label: n for n, c in enumerate(classes.values()) for label in c["labels"]},
        ensemble=[[t.format(x) for t in templates for x in c["names"]] for c in classes.values()] if templates else [],
        caveat=entry.get("caveat", ""),
    )


def draw_confusion(outcome: ZeroShotOutcome) -> bytes:
    """The confusion matrix as PNG: rows = truth, shade = share of the row, number = count."""
    from pathasst.core.plots import plot, png

    names, table = outcome.task.classes, outcome.scores.confusion
    [axes] = plot(4 + 0.6 * len(names), 1.5 + 0.5 * len(names))
    shares = table / np.maximum(1, table.sum(1, keepdims=True))
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (r, c), count in np.ndenumerate(table):
        axes.text(c, r, str(count), ha="center", va="center", color="white" if shares[r, c] > 0.6 else "black")
    places = range(len(names))
    axes.set_xticks(places, [str(n + 1) for n in places])
    axes.set_yticks(places, [f"{n + 1} {name}"[:36] for n, name in enumerate(names)])
    axes.set_title(f"{outcome.task.name}: rows truth, columns prediction, n = {outcome.scores.n}", fontsize=10)
    return png(axes)
