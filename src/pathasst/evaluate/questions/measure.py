"""Questions put to a brain: with the picture, a blank one, or none; options in several orders; strict rule beside the field's.

Knows items and the brain protocol. Intervals draw pictures, since one picture has several questions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from pathasst.assistant.brains.settings import Brain
from pathasst.core.errors import BadDataset, BadInput
from pathasst.core.records import IMAGE, Turn
from pathasst.core.settings import Field, Settings
from pathasst.core.statistics import Interval, mean_interval
from pathasst.evaluate import answers
from pathasst.evaluate.asking import Prompt, ask_all, bar, blank_picture
from pathasst.evaluate.leaderboard import Score
from pathasst.evaluate.predictions import Predictions, key_of
from pathasst.evaluate.questions.extract import lenient_choice, strict_choice
from pathasst.evaluate.questions.item import CHOICE, CLOSED, LETTERS, OPEN, QuestionItem
from pathasst.evaluate.questions.readers import READERS, jsonl, with_pictures
from pathasst.evaluate.sets import find
from pathasst.evaluate.table import Table

SEES, BLANK, TEXT = "with the picture", "blank picture", "no picture"
METRICS = {
    CHOICE: ("choice, strict", "choice, MMMU's rule", "choice, invalid", "same in every order"),
    CLOSED: ("closed, strict", "closed, LLaVA-Med's rule", "closed, quilt's rule", "closed, invalid"),
    OPEN: ("open, token F1", "open, exact", "open, recall"),
}
COLUMNS = ["set", "asked", "n", "pictures", *(m for metrics in METRICS.values() for m in metrics)]


class QuestionSettings(Settings):
    """How a set is asked."""

    split: str = "test"
    orders: int = Field(default=3, ge=1, description="Orders of the options of a choice; the score of an item is the mean.")
    blind: bool = Field(default=True, description="Also with a blank picture and without one.")
    limit: int = Field(default=0, ge=0, description="At most so many questions, whole pictures; 0: all.")
    seed: int = 0


def items_of(id: str, root: Path | None, split: str) -> list[QuestionItem]:
    """The items of a public set under `root`, or of a JSONL file when `id` is the path of one. Raises BadDataset, BadSettings."""
    if id.endswith((".jsonl", ".json")):
        return jsonl(Path(id), split)
    return READERS[id](find(root, id), split) if id in READERS else [*jsonl(find(root, id))]


def evaluate(
    brain: Brain, root: Path | None, ids: Sequence[str], cache: Path, options: QuestionSettings | None = None
) -> tuple[Table, list[Score]]:
    """Every set of `ids` (all that are under `root` by default) for one brain, and what the leaderboard file gets.

    A set that is missing or has another layout costs itself alone and is named in the notes. Raises BadDataset when none is
    there.
    """
    options = options or QuestionSettings()
    table = Table(id="questions", title=f"Questions: {brain.name}", columns=COLUMNS, seed=options.seed)
    scores: list[Score] = []
    missing = []
    for id in ids or tuple(READERS):
        try:
            every = items_of(id, root, options.split)
        except BadDataset as error:
            missing.append(str(error))
            continue
        usable, unreadable = with_pictures(every)
        if not usable:
            missing.append(f"{id}: none of the {len(every)} questions has its picture.")
            continue
        if unreadable:
            table.notes.append(f"{id}: {unreadable} questions left out, since their picture is missing.")
        scores += _set(table, brain, Path(id).stem, draw(usable, options.limit, options.seed), cache, options)
    if not table.rows:
        raise BadDataset("no set of questions was found.\n" + "\n".join(missing))
    table.notes += [
        f"Split {options.split}. Options in {options.orders} orders, averaged. 95 % intervals, bootstrap by picture. Strict: "
        f"no option, or several, is invalid and wrong. MMMU's rule draws an option where none is named.",
        *missing,
    ]
    return table, scores


def draw(items: Sequence[QuestionItem], limit: int, seed: int) -> list[QuestionItem]:
    """At most `limit` items (0: all), by whole pictures so that clusters stay whole but for the last."""
    if not limit or len(items) <= limit:
        return list(items)
    clusters = list(dict.fromkeys(i.cluster for i in items))
    order = {c: n for n, c in enumerate(Random(seed).sample(clusters, len(clusters)))}
    return sorted(items, key=lambda i: order[i.cluster])[:limit]


def _set(
    table: Table, brain: Brain, title: str, items: list[QuestionItem], cache: Path, options: QuestionSettings
) -> list[Score]:
    ways = ([SEES] if brain.sees else []) + ([BLANK] if brain.sees and options.blind else [])
    ways += [TEXT] if options.blind or not brain.sees else []
    data = key_of([[i.id, i.question, i.answer, list(i.choices)] for i in items])[:16]
    scores: list[Score] = []
    for way in ways:
        verdicts, failed = _ask(brain, title, items, way, cache, options)
        if failed:
            table.notes.append(f"{title}, {way}: {failed} replies failed (a picture that cannot be read) and count as wrong.")
        for subset in ("", *dict.fromkeys(i.subset for i in items if i.subset)):
            rows = [n for n, i in enumerate(items) if subset in ("", i.subset)]
            values = _scores([items[n] for n in rows], [verdicts[n] for n in rows])
            name = f"{title} / {subset}" if subset else title
            clusters = len({items[n].cluster for n in rows})
            table.add(name, f"{brain.name}, {way}", len(rows), clusters, *(values.get(m) for m in COLUMNS[4:]))
            counts = Counter(items[n].kind for n in rows)
            scores += [
                Score(
                    task=name,
                    split=options.split,
                    protocol=way,
                    metric=m,
                    value=v,
                    n=next(counts[kind] for kind, metrics in METRICS.items() if m in metrics),
                    clusters=clusters,
                    data=data,
                )
                for m, v in values.items()
            ]
        table.items += [_logged(brain.name, title, way, i, v) for i, v in zip(items, verdicts, strict=True)]
    _baselines(table, title, items)
    return scores


def _ask(
    brain: Brain, title: str, items: Sequence[QuestionItem], way: str, cache: Path, options: QuestionSettings
) -> tuple[list[dict[str, Any]], int]:
    """What each item's replies are worth (`_judge`), and how many failed."""
    requests: list[Prompt] = []
    places: list[tuple[int, list[int]]] = []
    for n, item in enumerate(items):
        for order in item.orders(options.orders, options.seed):
            pictures = {SEES: _pictures, BLANK: lambda i: [blank_picture()] * len(i.pictures), TEXT: lambda i: []}[way](item)
            text = f"{IMAGE}\n" * len(pictures) + item.prompt(order)
            requests.append(([Turn(role="user", content=text)], pictures, []))
            places.append((n, order))
    with bar(f"{title}, {way}", len(requests)) as progress:
        values = ask_all(brain, requests, Predictions(cache, "questions"), progress=progress)
    replies: list[list[tuple[list[int], str]]] = [[] for _ in items]
    for (n, order), value in zip(places, values, strict=True):
        replies[n].append((order, value["said"]))
    return [_judge(i, r) for i, r in zip(items, replies, strict=True)], sum(bool(v["failed"]) for v in values)


def _pictures(item: QuestionItem) -> list[bytes]:
    try:
        return item.images()
    except BadInput:
        return [b""] * len(item.pictures)  # the brain refuses it, which counts this item


def _judge(item: QuestionItem, replies: Sequence[tuple[list[int], str]]) -> dict[str, Any]:
    """Metric → value of one item, the mean over its orders; and the words of the first reply."""
    words = replies[0][1]
    values: tuple[float, ...]
    if item.kind == CLOSED:
        right = answers.closed_strict(words, item.answer)
        values = (
            bool(right),
            answers.closed_llava_med(words, item.answer),
            answers.closed_quilt(words, item.answer),
            right is None,
        )
    elif item.kind == OPEN:
        values = (
            answers.token_f1(words, item.answer),
            answers.exact_match(words, item.answer),
            answers.recall(words, item.answer),
        )
    else:
        strict, lenient = [], []
        for order, reply in replies:
            texts = [item.choices[c] for c in order]
            place = strict_choice(reply, texts)
            strict.append(None if place is None else texts[place])
            lenient.append(texts[lenient_choice(reply, texts, f"{item.id} {order}")])
        count = len(replies)
        invalid = sum(s is None for s in strict)
        same = None not in strict and len(set(strict)) == 1
        values = (strict.count(item.answer) / count, lenient.count(item.answer) / count, invalid / count, same)
    return dict(zip(METRICS[item.kind], map(float, values), strict=True)) | {"said": words}


def _scores(items: Sequence[QuestionItem], verdicts: Sequence[dict[str, Any]]) -> dict[str, Interval]:
    scores = {}
    for kind, metrics in METRICS.items():
        rows = [n for n, i in enumerate(items) if i.kind == kind]
        for metric in metrics if rows else ():
            scores[metric] = mean_interval([verdicts[n][metric] for n in rows], [items[n].cluster for n in rows])
    return scores


def _baselines(table: Table, title: str, items: Sequence[QuestionItem]) -> None:
    """What needs no model: an option at random, always the same letter, and the commonest answer of each kind."""
    choices = [i for i in items if i.kind == CHOICE]
    cells: dict[str, Any] = {}
    if choices:
        cells["choice, strict"] = cells["choice, MMMU's rule"] = sum(1 / len(i.choices) for i in choices) / len(choices)
    for kind, best in ((CLOSED, "closed, strict"), (OPEN, "open, exact")):
        counts = Counter(i.answer.strip().lower().rstrip(".") for i in items if i.kind == kind)
        if counts:
            cells[best] = counts.most_common(1)[0][1] / counts.total()
    clusters = len({i.cluster for i in items})
    table.add(title, "chance, or the commonest answer", len(items), clusters, *(cells.get(m) for m in COLUMNS[4:]))
    if choices:
        places = Counter(i.choices.index(i.answer) for i in choices)
        place, hits = places.most_common(1)[0]
        table.notes.append(f"{title}: always option {LETTERS[place]} of the set's order is right in {hits / len(choices):.3f}.")


def _logged(model: str, title: str, way: str, item: QuestionItem, scores: dict[str, Any]) -> dict[str, Any]:
    score = scores[METRICS[item.kind][0]]
    where = {"model": f"{model}, {way}", "id": f"{title}/{item.id}", "cluster": item.cluster, "part": title, "kind": item.kind}
    return where | {"asked": item.question, "wanted": item.answer, "said": scores["said"], "score": score}
