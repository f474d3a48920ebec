"""Zero-shot classification (Table 2) as a table: our scores, with the authors' prompt and an ensemble, beside the paper's.

Knows the public sets and the `clip` room, which does the classifying.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pathasst.evaluate.sets import find, public_sets
from pathasst.evaluate.table import Table

if TYPE_CHECKING:
    from pathasst.clip.model import DualEncoder
    from pathasst.clip.zeroshot import ZeroShotOutcome, ZeroShotPicture

PAPER = {
    "OpenAI CLIP": {"CRC100K": 22.2, "WSSS4LUAD": 61.6, "LC25000 lung": 31.5, "LC25000 colon": 75.7},
    "PLIP": {"CRC100K": 53.1, "WSSS4LUAD": 69.5, "LC25000 lung": 86.0, "LC25000 colon": 87.0},
    "PathCLIP": {"CRC100K": 54.2, "WSSS4LUAD": 81.1, "LC25000 lung": 88.7, "LC25000 colon": 94.3},
}
"""F1 of the paper's Table 2; it does not say which average, the weighted one is the likely one."""
SETS = ("crc100k", "wsss4luad", "lc25000-lung", "lc25000-colon")


def evaluate(
    clip: DualEncoder,
    name: str,
    root: Path | None,
    pairs: Path | None = None,
    split: Sequence[str] = ("test",),
    tasks: str = "embedded",
    *,
    only: Sequence[str] = (),
    folder: Path | None = None,
    originals: Path | None = None,
) -> Table:
    """Table 2 for one model: every public set under `root`, and every task whose labels the pairs have.

    `only`: names of the tasks that are measured; empty: all of the recipe `tasks`. `folder`: pictures in a public layout, instead
    of `root`; `originals`: a CSV `image,original` of that folder: copies of one original are one cluster of the bootstrap.
    Raises BadSettings for an unknown task.

    Sets that are missing or of another layout are named in the notes, with where to get them and how they must look. Raises
    BadDataset when nothing at all is there.
    """
    from pathasst.clip import zeroshot
    from pathasst.core.errors import BadDataset

    columns = ["model", "task", "prompts", "n", "clusters", "macro F1", "weighted F1", "accuracy"]
    table = Table(id="zero-shot", title=f"Zero-shot classification: {name}", columns=columns, section="Table 2", seed=0)
    selected = _selected(zeroshot.load_tasks(tasks), only)
    missing: list[str] = []
    for task, examples in _public(selected, root, folder, originals, missing):
        try:
            _measure(table, clip, name, task, examples)
        except BadDataset as error:  # not one picture can be read
            missing.append(str(error))
    if pairs is not None:
        pictures = zeroshot.labelled(pairs, split)
        for task in selected.values():
            if examples := zeroshot.examples_of_pairs(pictures, task):
                _measure(table, clip, name, task, examples, suffix=f" ({', '.join(split)})")
    if not table.rows:
        raise BadDataset("no zero-shot set was found.\n" + "\n".join(missing) + "\nOr give --pairs, a dataset of labelled pairs.")
    for model, scores in PAPER.items():
        for task_name, value in scores.items():
            table.add(f"paper: {model}", task_name, None, None, None, None, value / 100, None)
    plain = [str(row[1]).split(" (")[0] for row in table.rows]  # without the split of given pairs
    table.rows.sort(key=lambda row: plain.index(str(row[1]).split(" (")[0]))  # the paper's rows of a task below ours
    table.notes += [
        "95 % intervals, bootstrap by original where copies exist. The paper does not say which F1 average it prints.",
        *missing,
    ]
    return table


def _selected(tasks: dict[str, Any], only: Sequence[str]) -> dict[str, Any]:
    from pathasst.core.errors import BadSettings

    if unknown := set(only) - set(tasks):
        raise BadSettings(f"no task is called {', '.join(sorted(unknown))}; there are: {', '.join(tasks)}.")
    return {name: task for name, task in tasks.items() if not only or name in only}


def _public(
    tasks: dict[str, Any], root: Path | None, folder: Path | None, originals: Path | None, missing: list[str]
) -> Iterator[tuple[Any, list[ZeroShotPicture]]]:
    """Tasks with their pictures: of `folder` alone, or of the public sets under `root`; `missing` gets why others are not."""
    from pathasst.clip import zeroshot
    from pathasst.core.errors import BadDataset

    copies = zeroshot.read_originals(originals) if originals else None
    for id in SETS if folder is None else tasks:
        task = tasks.get(public_sets()[id].task if folder is None else id)
        try:
            if task is not None:
                yield task, zeroshot.examples_of_folder(folder or find(root, id), task, copies)
        except BadDataset as error:
            missing.append(str(error))


def _measure(table: Table, clip: DualEncoder, name: str, task: Any, examples: list[ZeroShotPicture], suffix: str = "") -> None:
    from pathasst.clip import zeroshot

    outcomes, read, notes = zeroshot.measure(clip, task, examples)
    for outcome in outcomes:
        scores = outcome.scores
        spans = scores.macro_f1, scores.weighted_f1, scores.accuracy
        table.add(name, task.name + suffix, outcome.style, scores.n, scores.clusters, *spans)
        if outcome.style == "single":
            table.pictures[f"{task.name}{suffix}: confusion"] = zeroshot.draw_confusion(outcome)
        table.items += _items(name, outcome, read, suffix)
    table.notes += [note for note in notes if note not in table.notes]


def _items(name: str, outcome: ZeroShotOutcome, examples: list[ZeroShotPicture], suffix: str) -> list[dict[str, Any]]:
    part = f"{outcome.task.name}{suffix}, {outcome.style}"
    return [
        {"model": name, "id": e.id, "cluster": e.cluster, "part": part, "score": float(t == p)}
        | {"wanted": outcome.task.classes[t], "said": outcome.task.classes[p]}
        for e, t, p in zip(examples, outcome.truth, outcome.predicted, strict=True)
    ]
