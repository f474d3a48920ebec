"""Retrieval in BEIR's layout (NFCorpus, TREC-COVID, SciFact, BioASQ-like): nDCG@10 and R@k of every search, beside `bm25s`.

Knows the layout and the `papers` room. An index is built once per set under the output folder, and a rerun reads the ranks it
kept. nDCG is trec_eval's, as BEIR's numbers are: the gain is the judgement itself, discounted by log2(rank + 1).
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pathasst.core.errors import BadDataset, MissingPackage
from pathasst.core.statistics import Interval, mean_interval
from pathasst.core.tables import read_table
from pathasst.evaluate.asking import bar
from pathasst.evaluate.leaderboard import Score
from pathasst.evaluate.predictions import Predictions, Value, key_of
from pathasst.evaluate.table import Table

if TYPE_CHECKING:
    from pathasst.papers import PaperIndex

KS = (1, 5, 10, 100)
DEPTH = 100
SMALL = 2000  # texts that one process reads sooner than two can start
MODES = ("words", "vectors", "hybrid")
PEER = "bm25s"
LAYOUT = "corpus.jsonl (_id, title, text), queries.jsonl (_id, text), qrels/test.tsv (query-id, corpus-id, score)"


@dataclass(frozen=True, slots=True)
class Collection:
    """Texts, questions with judgements, and a hash of all three."""

    name: str
    corpus: dict[str, tuple[str, str]]  # id → title, text
    queries: dict[str, str]  # id → question; those with a judgement above 0 alone
    judged: dict[str, dict[str, int]]  # question → text → judgement
    hash: str


def read_collection(folder: Path, split: str = "test") -> Collection:
    """A set in BEIR's layout. Raises BadDataset, which says what was looked for and what is there."""
    paths = {name: folder / name for name in ("corpus.jsonl", "queries.jsonl", f"qrels/{split}.tsv")}
    if missing := [name for name, path in paths.items() if not path.is_file()]:
        entries = sorted(p.name + "/" * p.is_dir() for p in folder.iterdir()) if folder.is_dir() else []
        raise BadDataset(
            f"{folder} has no {', '.join(missing)}. Expected: {LAYOUT}; it holds {', '.join(entries[:8]) or 'nothing'}. Get one: "
            "https://public.ukp.informatik.tu-darmstadt.de/thakur/BEIR/datasets/ (nfcorpus.zip, scifact.zip, trec-covid.zip)."
        )
    corpus = {id: (str(row.get("title") or ""), str(row["text"])) for id, row in _lines(paths["corpus.jsonl"])}
    questions = {id: str(row["text"]) for id, row in _lines(paths["queries.jsonl"])}
    judged: dict[str, dict[str, int]] = {}
    try:
        for _, row in read_table(paths[f"qrels/{split}.tsv"])[1]:
            judged.setdefault(row["query-id"], {})[row["corpus-id"]] = int(float(row["score"]))
    except (KeyError, ValueError, csv.Error) as error:
        raise BadDataset(f"{folder}/qrels/{split}.tsv: expected the columns query-id, corpus-id, score; {error!r}") from error
    usable = {id: q for id, q in questions.items() if any(v > 0 for v in judged.get(id, {}).values())}
    if not usable or not corpus:
        raise BadDataset(f"{folder}: none of the {len(questions)} questions has a judged text in qrels/{split}.tsv.")
    return Collection(folder.name, corpus, usable, judged, key_of(corpus, usable, judged)[:16])


def _lines(path: Path) -> list[tuple[str, dict[str, Any]]]:
    rows = []
    with path.open(encoding="utf-8") as file:
        for n, line in enumerate(file, 1):
            try:
                row = json.loads(line)
                rows.append((str(row["_id"]), {**row, "text": row["text"]}))
            except (ValueError, KeyError, TypeError) as error:
                raise BadDataset(f"{path}, line {n}: expected _id and text; {error!r}") from error
    return rows


def ndcg(ranked: Sequence[str], judged: dict[str, int], k: int = 10) -> float:
    """trec_eval's nDCG at k, 0…1: the gain is the judgement, texts without one gain nothing."""
    gains = [max(judged.get(id, 0), 0) for id in ranked[:k]]
    best = sorted((max(v, 0) for v in judged.values()), reverse=True)[:k]
    return _discounted(gains) / _discounted(best) if any(best) else 0.0


def _discounted(gains: Sequence[int]) -> float:
    return float((np.array(gains, float) / np.log2(np.arange(2, len(gains) + 2))).sum())


def recall(ranked: Sequence[str], judged: dict[str, int], k: int) -> float:
    """The share of the texts judged above 0 that are among the first k."""
    right = {id for id, value in judged.items() if value > 0}
    return len(right & set(ranked[:k])) / len(right)


def evaluate(
    folders: Sequence[Path], out: Path, *, vectors: bool = True, split: str = "test", peer: bool = True
) -> tuple[Table, list[Score]]:
    """Every set for every search, and what the leaderboard file gets. `vectors`: also by vectors, which takes time to make.

    Raises BadDataset for a wrong layout, MissingPackage where `bm25s` is wanted and not installed.
    """
    columns = ["set", "search", "questions", "texts", "nDCG@10", *(f"R@{k}" for k in KS)]
    table = Table(id="beir", title="Retrieval, BEIR's layout", columns=columns, seed=0)
    scores: list[Score] = []
    for folder in folders:
        collection = read_collection(folder, split)
        ranks: dict[str, list[list[str]]] = {}
        if peer:
            ranks[PEER] = _ranks_of_peer(collection)
        index = _index(collection, out / "beir" / f"{collection.name}-{collection.hash}", vectors)
        for mode in MODES if index.version.vectors else ("words",):
            ranks[mode] = _ranks(index, collection, mode, out / "predictions")
        for name, ranked in ranks.items():
            rows = list(zip(collection.queries, ranked, strict=True))
            per_query = {"nDCG@10": [ndcg(r, collection.judged[q]) for q, r in rows]}
            per_query |= {f"R@{k}": [recall(r, collection.judged[q], k) for q, r in rows] for k in KS}
            values: dict[str, Interval] = {metric: mean_interval(v) for metric, v in per_query.items()}
            table.add(collection.name, name, len(rows), len(collection.corpus), *values.values())
            table.items += [
                {"model": name, "part": f"{collection.name}, nDCG@10", "id": q, "cluster": q, "score": score}
                | {"asked": collection.queries[q], "said": ranked[:3]}
                for (q, ranked), score in zip(rows, per_query["nDCG@10"], strict=True)
            ]
            scores += [
                Score(task=collection.name, split=split, protocol=name, metric=m, value=v, n=len(rows), data=collection.hash)
                for m, v in values.items()
            ]
        table.notes.append(f"{collection.name}: {index.describe()}.")
    table.notes.append(
        "95 % intervals, bootstrap by question. nDCG as trec_eval computes it. bm25s: its default tokens, English stop words, "
        "no stemmer, k1 1.5, b 0.75."
    )
    return table, scores


def _index(collection: Collection, home: Path, vectors: bool) -> PaperIndex:
    """The set's index, built once; its ids stand for PMIDs."""
    from pathasst.papers import BuildSettings, PaperIndex, build, versions

    place = home / "index"
    if not versions.exists(place) or (vectors and not PaperIndex.open(place).version.vectors):
        home.mkdir(parents=True, exist_ok=True)
        rows = ({"pmid": id, "title": title, "abstract": text} for id, (title, text) in collection.corpus.items())
        with (home / "corpus.jsonl").open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        workers = 1 if len(collection.corpus) < SMALL else 2
        settings = BuildSettings(make_vectors=vectors, vectors_home=home / "vectors", workers=workers)
        build([home / "corpus.jsonl"], place, settings, say=lambda text: None)
    return PaperIndex.open(place)


def _ranks(index: PaperIndex, collection: Collection, mode: str, cache: Path) -> list[list[str]]:
    from pathasst.papers.documents import key_of_id

    ids = {key_of_id(id): id for id in collection.corpus}
    pairs = list(collection.queries.items())
    version = index.version.model_dump_json()
    keys = [key_of(collection.hash, version, index.settings.plain(), mode, DEPTH, *pair) for pair in pairs]

    def rank(rows: list[int]) -> list[Value]:
        return [
            {"ids": [ids[key] for key, _ in index.rank(text, DEPTH + 1, mode) if ids[key] != query][:DEPTH]}
            for query, text in (pairs[n] for n in rows)
        ]

    with bar(f"{collection.name}, {mode}", len(pairs)) as progress:
        return [value["ids"] for value in Predictions(cache, "beir").fill(keys, rank, progress=progress)]


def _ranks_of_peer(collection: Collection) -> list[list[str]]:
    try:
        import bm25s
    except ImportError:
        raise MissingPackage(
            "the plain BM25 beside ours needs bm25s: pip install 'pathasst[peers]', or give --no-peer."
        ) from None
    ids = list(collection.corpus)
    tokens: Callable[[list[str]], Any] = lambda texts: bm25s.tokenize(texts, stopwords="en", show_progress=False)  # noqa: E731
    engine = bm25s.BM25(k1=1.5, b=0.75)
    engine.index(tokens([f"{title} {text}".strip() for title, text in collection.corpus.values()]), show_progress=False)
    depth = min(DEPTH + 1, len(ids))
    rows, scores = engine.retrieve(tokens(list(collection.queries.values())), k=depth, show_progress=False)
    return [
        [ids[r] for r, score in zip(row, values, strict=True) if score > 0 and ids[r] != query][:DEPTH]
        for query, row, values in zip(collection.queries, rows, scores, strict=True)
    ]
