"""NOVA's SlideQuest: questions that an agent answers with a table in a file, held to tolerances. Knows its layout, and no agent.

    benchmark/<data_qa|cellular_qa|patch_qa|slide_qa>/questions.json        the questions
    benchmark/<…>/ground_truth/question_<id>/answer.json                    a list of rows each
    ANSWERS/<…>/question_<id>/answer.json                                   what an agent wrote

A number is right within its column's relative tolerance, text where it equals (one of) the right ones but for case and space.
Rows are found by the id column. NOVA also forgives other names of columns and ids by the best match; here a name must be right,
which the column `strict` says. A question without a file scores 0.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pathasst.core.errors import BadDataset
from pathasst.core.statistics import mean_interval
from pathasst.evaluate.leaderboard import Score
from pathasst.evaluate.predictions import key_of
from pathasst.evaluate.table import Table

PARTS = ("data_qa", "cellular_qa", "patch_qa", "slide_qa")
TOLERANCE = 0.001
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideQuestion:
    """One question with its right rows."""

    id: str
    part: str
    question: str
    id_column: str
    columns: dict[str, float]  # column → relative tolerance
    truth: list[Row]


def read_questions(folder: Path) -> list[SlideQuestion]:
    """Every question with a right answer. Raises BadDataset, which says what was looked for."""
    questions = []
    for part in PARTS:
        path = folder / part / "questions.json"
        for node in _json(path) if path.is_file() else ():
            try:
                truth = rows_of(path.parent / "ground_truth" / f"question_{node['id']}" / "answer.json")
                columns = {k: TOLERANCE if v is None else float(v) for k, v in node["columns_to_compare_and_tolerance"].items()}
                questions.append(
                    SlideQuestion(
                        id=str(node["id"]),
                        part=part,
                        question=str(node["question"]),
                        id_column=node.get("id_column") or "",
                        columns=columns,
                        truth=truth,
                    )
                )
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise BadDataset(f"{path}: expected id, question, columns_to_compare_and_tolerance; {error!r}") from error
    if not questions:
        raise BadDataset(
            f"{folder} has no SlideQuest: expected {{{','.join(PARTS)}}}/questions.json and ground_truth/. Get it: the folder "
            f"benchmark of https://github.com/microsoft/nova-agent (MIT); slides of TCGA-BRCA, as its README says."
        )
    return questions


def rows_of(path: Path) -> list[Row]:
    """The rows of an answer.json: a list of objects, or one object. Raises BadDataset."""
    content = _json(path)
    rows = content if isinstance(content, list) else [content]
    if not all(isinstance(r, dict) for r in rows):
        raise BadDataset(f"{path}: expected a list of objects.")
    return rows


def score(question: SlideQuestion, answer: list[Row]) -> float:
    """The share of right cells, over all columns and right rows."""
    by_id = {str(row.get(question.id_column)): row for row in answer} if question.id_column else {}
    right = total = 0
    for n, truth in enumerate(question.truth):
        row = by_id.get(str(truth.get(question.id_column)), {}) if question.id_column else (answer[n] if n < len(answer) else {})
        for column, tolerance in question.columns.items():
            total += 1
            right += column in row and _same(truth.get(column), row[column], tolerance)
    return right / total if total else 0.0


def _same(truth: Any, value: Any, tolerance: float) -> bool:
    if isinstance(truth, int | float) and not isinstance(truth, bool):
        try:
            number = float(value)
        except (TypeError, ValueError):
            return False
        return (
            min(truth * (1 - tolerance), truth * (1 + tolerance))
            <= number
            <= max(truth * (1 - tolerance), truth * (1 + tolerance))
        )
    options = truth if isinstance(truth, list) else [truth]
    return _words(value) in {_words(o) for o in options}


def _words(value: Any) -> str:
    return re.sub(r"[-–—]", "", " ".join(str(value).lower().split())).rstrip(".:!?")


def evaluate(name: str, folder: Path, answers: Path) -> tuple[Table, list[Score]]:
    """An agent's files against SlideQuest, in all and by part, and what the leaderboard file gets."""
    questions = read_questions(folder)
    table = Table(
        id="slidequest", title=f"SlideQuest: {name}", columns=["part", "n", "answered", "score", "all cells right"], seed=0
    )
    values: list[float] = []
    answered: list[bool] = []
    for question in questions:
        path = answers / question.part / f"question_{question.id}" / "answer.json"
        rows: list[Row] = []
        if path.is_file():
            try:
                rows = rows_of(path)
            except BadDataset as error:
                table.notes.append(str(error))
        answered.append(bool(rows))
        values.append(score(question, rows) if rows else 0.0)
        table.items.append(
            {
                "model": name,
                "part": question.part,
                "id": f"{question.part}/{question.id}",
                "asked": question.question,
                "score": values[-1],
            }
        )
    scores: list[Score] = []
    data = key_of([[q.part, q.id, q.truth] for q in questions])[:16]
    for part in ("all", *dict.fromkeys(q.part for q in questions)):
        rows_ = [n for n, q in enumerate(questions) if part in ("all", q.part)]
        share, complete = mean_interval([values[n] for n in rows_]), mean_interval([float(values[n] == 1) for n in rows_])
        table.add(part, len(rows_), sum(answered[n] for n in rows_), share, complete)
        scores.append(Score(task=f"SlideQuest, {part}", metric="score", protocol="strict", value=share, n=len(rows_), data=data))
    table.notes.append(
        "95 % intervals, bootstrap by question. Names of columns and ids must be right; NOVA's own script forgives some."
    )
    return table, scores


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadDataset(f"{path} cannot be read: {error}") from error
