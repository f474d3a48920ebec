"""PathVQA (Table 3): any brain on the public questions, by every convention of the field, beside what needs no eyes.

Knows the questions and the brain protocol. Intervals draw pictures, since one picture has several questions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

from pathasst.assistant.brains.settings import Brain
from pathasst.core.errors import BadInput
from pathasst.core.records import IMAGE, Turn
from pathasst.core.statistics import mean_interval
from pathasst.evaluate import answers
from pathasst.evaluate.asking import Prompt, ask_all, bar, blank_picture
from pathasst.evaluate.pathvqa_data import PathVQAQuestion
from pathasst.evaluate.predictions import Predictions, Share, Value
from pathasst.evaluate.table import Cell, Table

PAPER = {
    "M2I2": (88.0, 36.3),
    "CLIP-ViT+GPT2": (87.0, 40.0),
    "MMQ": (84.0, 13.4),
    "LLaVA": (81.0, 19.2),
    "BLIP-2": (80.1, 34.1),
    "PathAsst with CLIP": (89.7, 37.6),
    "PathAsst": (90.9, 38.4),
}
"""Closed accuracy and open F1 as the paper's Table 3 prints them (test split, fine-tuned on the training split)."""
CLOSED: dict[str, Callable[[str, str], Any]] = {
    "closed, strict": lambda replies, answer: bool(answers.closed_strict(replies, answer)),
    "closed, LLaVA-Med's rule": answers.closed_llava_med,
    "closed, quilt's rule": answers.closed_quilt,
    "closed, invalid": lambda replies, answer: answers.closed_strict(replies, answer) is None,
}
OPEN: dict[str, Callable[[str, str], Any]] = {
    "open, token F1": answers.token_f1,
    "open, exact": answers.exact_match,
    "open, recall": answers.recall,
}
COLUMNS = ["model", *CLOSED, *OPEN]


def draw(questions: Sequence[PathVQAQuestion], limit: int, seed: int) -> list[PathVQAQuestion]:
    """At most `limit` questions (0: all), drawn by whole pictures so that the clusters stay whole but for the last."""
    if not limit or len(questions) <= limit:
        return list(questions)
    images = list(dict.fromkeys(q.image for q in questions))
    order = {image: n for n, image in enumerate(Random(seed).sample(images, len(images)))}
    return sorted(questions, key=lambda q: order[q.image])[:limit]


def evaluate(
    brain: Brain,
    questions: Sequence[PathVQAQuestion],
    cache: Path,
    *,
    prompt: str = "{question}",
    blind: bool = True,
    share: Share = (0, 1),
) -> Table:
    """Table 3 for one brain: model, image-blind model, majority class, and the paper's rows."""
    table = Table(id="pathvqa", title="PathVQA: answers about pictures", columns=COLUMNS, section="Table 3")
    runs = {brain.name: False} | ({f"{brain.name}, blank picture": True} if blind else {})
    for name, is_blind in runs.items():
        replies = _ask(brain, questions, Predictions(cache, "pathvqa", share), prompt, is_blind)
        table.add(name, *_scores(questions, [v["said"] for v in replies]))
        table.items += [_item(name, q, v) for q, v in zip(questions, replies, strict=True)]
        if failed := sum(bool(v["failed"]) for v in replies):
            table.notes.append(f"{name}: {failed} pictures could not be read and count as wrong.")
    table.add("majority class", *_scores(questions, _majority(questions)))
    for name, (closed, open_) in PAPER.items():
        table.add(f"paper: {name}", closed / 100, None, None, None, open_ / 100, None, None)
    closed_n = sum(answers.is_closed(q.answer) for q in questions)
    table.notes.append(
        f"n = {len(questions)} questions ({closed_n} closed) about {len({q.image for q in questions})} pictures; 95 % intervals, "
        f"bootstrap by picture. Strict: the first yes or no decides, none is wrong. Prompt: {prompt!r}."
    )
    return table


def _ask(brain: Brain, questions: Sequence[PathVQAQuestion], cache: Predictions, prompt: str, is_blind: bool) -> list[Value]:
    requests: list[Prompt] = []
    for q in questions:
        picture = blank_picture() if is_blind else _picture(q)
        text = prompt.replace("{question}", q.question)
        requests.append(([Turn(role="user", content=f"{IMAGE}\n{text}")], [picture], []))
    with bar("PathVQA, blank picture" if is_blind else "PathVQA", len(requests)) as progress:
        return ask_all(brain, requests, cache, progress=progress)


def _picture(question: PathVQAQuestion) -> bytes:
    try:
        return question.load()
    except BadInput:
        return b""  # the brain refuses it, which counts this item


def _scores(questions: Sequence[PathVQAQuestion], replies: Sequence[str]) -> list[Cell]:
    cells: list[Cell] = []
    for rules, closed in ((CLOSED, True), (OPEN, False)):
        rows = [n for n, q in enumerate(questions) if answers.is_closed(q.answer) == closed]
        clusters = [questions[n].image for n in rows]
        for rule in rules.values():
            values = [float(rule(replies[n], questions[n].answer)) for n in rows]
            cells.append(mean_interval(values, clusters) if values else None)
    return cells


def _majority(questions: Sequence[PathVQAQuestion]) -> list[str]:
    """The commonest closed answer for closed questions, the commonest open one for open ones."""
    best = {}
    for closed in (True, False):
        counts = Counter(q.answer.strip().lower() for q in questions if answers.is_closed(q.answer) == closed)
        best[closed] = counts.most_common(1)[0][0] if counts else ""
    return [best[answers.is_closed(q.answer)] for q in questions]


def _item(name: str, q: PathVQAQuestion, value: Value) -> dict[str, Any]:
    closed = answers.is_closed(q.answer)
    score = float(bool(answers.closed_strict(value["said"], q.answer))) if closed else answers.token_f1(value["said"], q.answer)
    item = {"model": name, "id": f"{q.image}: {q.question}", "cluster": q.image, "part": "closed" if closed else "open"}
    return item | {"wanted": q.answer, "said": value["said"], "score": score}
