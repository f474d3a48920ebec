"""Literature retrieval: expert questions whose right abstract is known, R@k by words, by vectors and by both.

Knows questions and the `papers` room. A question that equals its abstract's title would be found by any search, so an index made
without titles is what the numbers mean something on; the note says which it is.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pathasst.core.errors import BadDataset
from pathasst.core.statistics import mean_interval, wilson
from pathasst.evaluate.asking import bar
from pathasst.evaluate.predictions import Predictions, Value, key_of
from pathasst.evaluate.sets import find, public_sets
from pathasst.evaluate.table import Table

if TYPE_CHECKING:
    from pathasst.papers import PaperIndex

KS = (1, 5, 10)
DEPTH = 100
MODES = ("words", "vectors", "hybrid")


def questions(root: Path | None) -> dict[str, str]:
    """PMID → question. Raises BadDataset when there is no file of questions, or it has another form."""
    folder = find(root, "questions")
    path = next(p for pattern in public_sets()["questions"].holds for p in sorted(folder.glob(pattern)))
    try:
        rows: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        return {str(pmid): str(row.get("question") or row["QUESTION"]) for pmid, row in rows.items()}
    except (ValueError, KeyError, AttributeError) as error:
        raise BadDataset(f"{path}: expected {public_sets()['questions'].layout}; got {error!r}") from error


def evaluate(index: PaperIndex, questions: dict[str, str], cache: Path) -> Table:
    """R@1, R@5, R@10 (Wilson) and MRR (bootstrap by question) of every way of searching that the index has.

    Raises BadDataset for an index that holds no question's abstract, in which nothing could be found.
    """
    missing = [pmid for pmid in questions if index.get(pmid) is None]
    if len(missing) == len(questions):
        raise BadDataset(f"{index.home} holds none of the abstracts that answer the questions: build it from those, too.")
    columns = ["search", "questions", *(f"R@{k}" for k in KS), "MRR"]
    table = Table(id="papers", title="Paper retrieval", columns=columns, section="Paper Retrieval", seed=0)
    for mode in MODES if index.version.vectors else ("words",):
        ranks = _ranks(index, questions, mode, Predictions(cache, "papers"))
        shares = [wilson(sum(0 < r <= k for r in ranks), len(ranks)) for k in KS]
        table.add(mode, len(ranks), *shares, mean_interval([1 / r if r else 0.0 for r in ranks]))
        table.items += [
            {"model": mode, "id": pmid, "cluster": pmid, "part": "R@1", "asked": question}
            | {"wanted": pmid, "said": f"place {r}" if r else f"not among the first {DEPTH}", "score": float(r == 1)}
            for (pmid, question), r in zip(questions.items(), ranks, strict=True)
        ]
    table.data = index.describe()
    if missing:
        table.notes.append(
            f"{len(missing)} questions cannot be answered: the index lacks their abstract (PMID {', '.join(missing[:3])} …)."
        )
    table.notes.append(
        "95 % intervals: Wilson (R@k), bootstrap by question (MRR). Where questions are titles, index without titles."
    )
    return table


def _ranks(index: PaperIndex, questions: dict[str, str], mode: str, cache: Predictions) -> list[int]:
    """The place of each question's abstract among the first DEPTH, from 1; 0: it is not among them."""
    from pathasst.papers.documents import key_of_id

    pairs = list(questions.items())
    keys = [key_of(index.version.model_dump_json(), index.settings.plain(), mode, DEPTH, *pair) for pair in pairs]

    def rank(rows: list[int]) -> list[Value]:
        ranks = []
        for pmid, question in (pairs[n] for n in rows):
            places = [key for key, _ in index.rank(question, DEPTH, mode)]
            target = key_of_id(pmid)
            ranks.append({"rank": places.index(target) + 1 if target in places else 0})
        return ranks

    with bar(f"papers, {mode}", len(questions)) as progress:
        return [value["rank"] for value in cache.fill(keys, rank, progress=progress)]
